// Open MPI: mpirun in the tree, four ranks on this machine, their shared memory, sockets and pseudo-terminals.
import Foundation
import Glibc
import Testing

extension Subject {
    static let ranks = Subject(name: "mpi") {
        let installation = try Installation.get(), target = installation.folder + "/oracle-mpi"
        if access(target, X_OK) != 0 {
            let result = try run(["/usr/bin/mpicc", "-O2", "-o", target, installation.package + "/Tests/Oracle/ring.c"], in: installation.folder)
            if result.status != .exited(0) { throw Failure(result.errors) }
        }
        return ["/bin/sh", try copied("mpi.sh"), target, "9000"]
    }
}

@Suite(.serialized) struct MPITests {
    @Test func `ranks of Open MPI restarted at random instants print what they print undisturbed`() {
        for user in User.available { #expect(oracle(.ranks, as: user, count: soak ? 60 : 20) >= 10) }
    }
}

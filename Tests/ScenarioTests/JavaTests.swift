// A Java virtual machine: its threads, collectors, compiled code and sockets, ended and restarted at random instants.
import Foundation
import Glibc
import Testing

extension Subject {
    /// Every collector lays memory out in a way of its own; ZGC maps one memfd three times.
    static let machines: [Subject] = ["Serial", "G1", "Shenandoah", "Z"].map { collector in
        Subject(name: "java-\(collector)") {
            let folder = try Installation.get().folder
            if access(folder + "/Threads.class", R_OK) != 0 {
                let result = try run(["/usr/bin/javac", "-d", folder, try copied("Threads.java")], in: folder)
                if result.status != .exited(0) { throw Failure(result.errors) }
            }
            return ["/usr/bin/java", "-XX:+Use\(collector)GC", "-Xmx64m", "-cp", folder, "Threads", "600"]
        }
    }
}

@Suite(.serialized) struct JavaTests {
    @Test(arguments: Subject.machines) func `a Java program restarted at random instants prints what it prints undisturbed`(subject: Subject) {
        for user in User.available { #expect(oracle(subject, as: user, count: soak ? 60 : 20) >= 10) }
    }
}

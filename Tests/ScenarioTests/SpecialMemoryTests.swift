// What mappings have beyond contents and protection comes back: huge pages, guards, seals, policies, growth.
import Foundation
import Testing

@Suite struct SpecialMemoryTests {
    @Test func `memory on hugetlb pages keeps its contents and its pages' size`() { feature("memory-hugetlb") }
    @Test func `guard pages fault, and those around them keep their contents`() { feature("memory-guards") }
    @Test func `sealed memory stays sealed`() { feature("memory-sealed") }
    @Test func `memory policies of tasks and mappings are unchanged`() { feature("memory-policy") }
    @Test func `growing memory keeps growing up to its guard gap, and droppable memory stays droppable`() { feature("memory-growing") }
    @Test func `later mappings are locked and may not become code as before, and membarrier knows the program`() { feature("memory-rules", flags: ["-pthread"]) }
    @Test func `tens of thousands of mappings are restored`() { feature("memory-many") }

    @Test(.enabled(if: User.available.contains(.root))) func `a restart without free huge pages names the setting`() {
        let pool = "/proc/sys/vm/nr_hugepages", before = read(pool)
        try? "8".write(toFile: pool, atomically: false, encoding: .ascii)
        defer { try? before.write(toFile: pool, atomically: false, encoding: .ascii) }
        scenario("hugetlb-none") { s in
            try s.start([try s.installation.program("memory-hugetlb")])
            try s.waitUntilReady()
            if read("/proc/\(s.pid)/maps").contains("/anon_hugepage") == false { s.go(); try s.expect(.exited(0), output: "ok\n"); return }
            try s.checkpoint(kill: true)
            try? "0".write(toFile: pool, atomically: false, encoding: .ascii)
            try s.restart()
            let status = try s.wait()
            if status != .exited(69) || !s.restartErrors.contains("nr_hugepages") { throw Failure("\(status): \(s.restartErrors)") }
        }
    }
}

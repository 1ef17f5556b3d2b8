// A process has its table of descriptors, and its folders with the umask, for itself, and its threads have them in common.  What clone(2) or unshare(2) made
// otherwise shows in no file of /proc, but to kcmp(2); the engine makes every process and thread in the ordinary way, so it is refused.
import CkptReport
import CkptSystem

func refuseSharedTables(_ tree: ObservedTree, _ refusals: Refusals) {
    for (table, name, flag) in [(Kernel.Compared.files, "table of descriptors", "CLONE_FILES"), (.fs, "working folder", "CLONE_FS")] {
        // In the kernel's order those that have one in common are neighbours.
        let sorted = tree.live.sorted { (try? Kernel.compare($0.view, $1.view, table)) == 1 }
        for (a, b) in zip(sorted, sorted.dropFirst()) where (try? Kernel.compare(a.view, b.view, table)) == 0 {
            refusals.add(pid: max(a.pid, b.pid), "it has its \(name) in common with pid \(min(a.pid, b.pid)) (clone with \(flag))", "let it end, or make it by fork")
        }
        for p in tree.live {
            guard let first = p.tasks.first?.view else { continue }
            for t in p.tasks.dropFirst() where (try? Kernel.compare(first, t.view, table)) ?? 0 != 0 {
                refusals.add(pid: p.pid, "tid \(t.tid): it has a \(name) of its own (unshare with \(flag))", "let the thread end")
            }
        }
    }
}

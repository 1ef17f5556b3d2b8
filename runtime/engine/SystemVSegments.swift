// Runs in the builder and in each process of the tree, on the region's main stack; no allocation, no libc.
// System V shared memory: filled before the tree's first process is born; each process attaches what it had, where it had it.
import CkptABI
import EngineBoot
import Freestanding

private func isSegment(_ o: Int) -> Bool { objects[o].pointee.kind == CKPT_OBJECT_SEGMENT.rawValue }

func attach(_ i: Int, at address: UInt64 = 0, readOnly: Bool = false) -> Int { there(CKPT_SYS_shmat, Int(ipc[i].pointee.id), int(address), readOnly ? 0o10000 : 0) }

/// Those that were removed stay attached until the tree has them: the last attachment takes them along.
func fillSegments(in pids: UInt32) {
    func isFilled(_ o: Int) -> Bool {
        let i = Int(objects[o].pointee.detail)
        return isSegment(o) && isThere(i) && isMade(i) && ipc[i].pointee.pids == pids
    }
    for o in 0..<objects.count where isFilled(o) {
        let r = attach(Int(objects[o].pointee.detail))
        guard !failed(r) else { refuseIPC(Int(objects[o].pointee.detail), r, "cannot be attached") }
        objectStaging[o].pointee = UInt64(r)
    }
    for p in 0..<processes.count where processes[p].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 {
        forEachRun(from: processes[p].pointee.shared_runs) { run in
            let o = Int(run.object)
            guard o < objects.count, isFilled(o) else { return }
            let size = UInt64(run.pages) * 4096
            guard run.address <= sharedSize(o), size <= sharedSize(o) - run.address else { refuseStatefile("run", at: run.file_offset, "lies outside its shared object") }
            readRun(run, to: objectStaging[o].pointee + run.address, frames: state.pointee.frames)
        }
    }
    for o in 0..<objects.count where isFilled(o) {
        let r = ipc[objects[o].pointee.detail].pointee
        // In a namespace of a part it is removed when it is attached.
        if r.place != 0 || r.flags & CKPT_IPC_REMOVED.rawValue == 0 { _ = system(CKPT_SYS_shmdt, int(objectStaging[o].pointee)) }
    }
}

/// One shmat(2) may have become many VMAs; shmdt(2) takes them all along, if they still are of one attachment.
private func isSameAttachment(_ a: ckpt_vma_record, _ b: ckpt_vma_record) -> Bool {
    a.kind == b.kind && a.object == b.object && a.start &- a.object_offset == b.start &- b.object_offset && (a.flags ^ b.flags) & CKPT_VMA_MAYWRITE.rawValue == 0
}

func mapSegment(_ v: Int) {
    let r = vmas[v].pointee, i = Int(objects[r.object].pointee.detail), p = processes[r.process]
    for k in Int(p.pointee.first_vma)..<v where isSameAttachment(vmas[k].pointee, r) { return }       // came with that one
    let size = sharedSize(Int(r.object)), all = attachAside(v, i, size)
    for k in v..<Int(p.pointee.first_vma + p.pointee.vma_count) where isSameAttachment(vmas[k].pointee, r) {
        let part = vmas[k].pointee, fixed = 3
        let m = system(CKPT_SYS_mremap, int(all + part.object_offset), int(part.end - part.start), int(part.end - part.start), fixed, int(part.start))
        guard !failed(m), UInt64(m) == part.start else { refuseVma(k, failed(m) ? m : -17, "System V shared memory cannot be attached there") }
        if part.policy != 0 { restorePolicy(k) }
    }
    _ = ckpt_munmap(all, size)
}

/// Where no process of the tree has anything, and we have nothing either.
private func attachAside(_ v: Int, _ i: Int, _ size: UInt64) -> UInt64 {
    var from: UInt64 = 0x3000_0000_0000
    while true {
        let found = freeBase(size: size, from: from, limit: 0x7fff_0000_0000, guardSize: 4096, alignment: 4096, count: vmas.count) { AddressRange(vmas[$0].pointee.start, vmas[$0].pointee.end) }
        guard let base = found else { refuseVma(v, -12, "System V shared memory has no room") }
        let r = attach(i, at: base, readOnly: !has(v, CKPT_VMA_MAYWRITE))
        if !failed(r) { return UInt64(r) }
        let taken = -22
        guard r == taken, from < 0x7fff_0000_0000 else { refuseVma(v, r, "System V shared memory cannot be attached") }
        from = base + max(size, 1 << 30)
    }
}

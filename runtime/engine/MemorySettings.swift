// Runs in each process of the tree, on the region's main stack or on a task's own; no allocation, no libc.
// What mappings have beyond contents and protection: guards, protection keys, NUMA policies, names, merging, seals.
import CkptABI
import EngineBoot
import Freestanding

/// MADV_GUARD_INSTALL; before memory is locked, since the kernel forbids it after.
func restoreGuards(_ i: Int) {
    for g in 0..<guards.count where guards[g].pointee.process == UInt32(i) {
        let r = ckpt_madvise(guards[g].pointee.start, guards[g].pointee.end - guards[g].pointee.start, 102)
        guard r == 0 else {
            refuse(r) { l in
                putProcess(i, &l); l.put("guard pages at 0x"); l.put(hex: guards[g].pointee.start); l.put(" cannot be installed; restart it on Linux 6.13 or newer")
            }
        }
    }
}

/// pkey_alloc(2) gives the lowest free key: all are taken, and those that the program did not have go back.
/// The rights that this task has under them are in its signal frame.
func takeProtectionKeys(_ i: Int) {
    let wanted = processes[i].pointee.protection_keys
    if wanted == 0 && !usesKeys(i) { return }
    guard ckpt_has_protection_keys() else {
        refuse(.lacks) { l in putProcess(i, &l); l.put("it uses protection keys (pkey_alloc), which this CPU or kernel lacks; restart it on a machine that has them") }
    }
    var taken: UInt32 = 0
    while taken & wanted != wanted {
        let key = system(CKPT_SYS_pkey_alloc, 0, 0)
        guard key > 0, key < 16 else { refuse(key) { l in putProcess(i, &l); l.put("its protection keys") } }
        taken |= 1 << UInt32(key)
    }
    for key in 1..<16 where taken & ~wanted & (1 << UInt32(key)) != 0 { _ = system(CKPT_SYS_pkey_free, key) }
    ckpt_allow_all_keys()
}
private func usesKeys(_ i: Int) -> Bool {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count where vmas[p.pointee.first_vma + k].pointee.key != 0 { return true }
    return false
}
func protectByKey(_ v: Int) {
    let r = vmas[v].pointee
    let e = system(CKPT_SYS_pkey_mprotect, int(r.start), int(r.end - r.start), Int(r.protection), Int(r.key))
    guard e == 0 else { refuseVma(v, e, "its protection key cannot be set") }
}

/// mbind(2), before the pages are there.
func restorePolicy(_ v: Int) {
    let r = vmas[v].pointee
    var nodes = r.policy_nodes
    let e = system(CKPT_SYS_mbind, int(r.start), int(r.end - r.start), Int(r.policy), nodes == 0 ? 0 : int(&nodes), nodes == 0 ? 0 : 65, 0)
    guard e == 0 else { refuseVma(v, e, "its memory policy (mbind) cannot be set; restart it where the NUMA nodes that it names exist") }
}
/// set_mempolicy(2) belongs to each task.
func restoreTaskPolicy(_ t: Int) {
    let r = tasks[t].pointee
    if r.policy == 0 { return }
    var nodes = r.policy_nodes
    let e = system(CKPT_SYS_set_mempolicy, Int(r.policy), nodes == 0 ? 0 : int(&nodes), nodes == 0 ? 0 : 65)
    guard e == 0 else { refuseTask(t, e, "its memory policy (set_mempolicy) cannot be set; restart it where the NUMA nodes that it names exist") }
}

/// PR_SET_VMA_ANON_NAME: a kernel that keeps no names shows none either; the program goes on without.
func restoreName(_ v: Int) {
    let r = vmas[v].pointee
    _ = ckpt_prctl(0x53564d41, 0, int(r.start), int(r.end - r.start), int(bytes(r.name)))
}

/// PR_SET_MEMORY_MERGE marks every mapping: those that the program had taken out are taken out again.
func restoreMerging(_ i: Int) {
    let p = processes[i]
    guard p.pointee.memory_merge > 0 else { return }
    let r = ckpt_prctl(67, 1, 0, 0, 0)
    guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("PR_SET_MEMORY_MERGE") } }
    for k in 0..<p.pointee.vma_count {
        let v = Int(p.pointee.first_vma + k)
        if vmas[v].pointee.kind == CKPT_VMA_ANONYMOUS.rawValue && !has(v, CKPT_VMA_MERGEABLE) { _ = ckpt_madvise(vmas[v].pointee.start, vmas[v].pointee.end - vmas[v].pointee.start, 13) }
    }
}

/// mseal(2), the last that is done to memory: nothing can be changed after.  The region is never sealed, so that the runtime can unmap it.
func sealMemory(_ i: Int) {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count {
        let v = Int(p.pointee.first_vma + k), r = vmas[v].pointee
        guard has(v, CKPT_VMA_SEALED), r.kind <= CKPT_VMA_SHARED_ANONYMOUS.rawValue else { continue }
        let e = system(CKPT_SYS_mseal, int(r.start), int(r.end - r.start), 0)
        guard e == 0 else { refuseVma(v, e, "cannot be sealed (mseal); restart it on Linux 6.10 or newer") }
    }
}

/// While there is one task, since the kernel asks all others otherwise.
func registerBarriers(_ i: Int) {
    for bit in 0..<32 where processes[i].pointee.membarrier & (1 << UInt32(bit)) != 0 {
        let r = system(CKPT_SYS_membarrier, 1 << bit, 0)
        guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("its registration for membarrier(2)") } }
    }
}

/// They would stand in the way of all that maps memory.
func restoreMemoryRules(_ i: Int) {
    let p = processes[i], future = 2, onFault = 4
    if p.pointee.future_locks != 0 {
        let r = system(CKPT_SYS_mlockall, p.pointee.future_locks == UInt8(CKPT_LOCKS_ON_FAULT.rawValue) ? future | onFault : future)
        guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("mlockall (MCL_FUTURE); raise the limit on locked memory (ulimit -l)") } }
    }
    if p.pointee.no_exec_gain != 0 {
        let r = ckpt_prctl(65, Int(p.pointee.no_exec_gain), 0, 0, 0)
        guard r == 0 || ckpt_prctl(66, 0, 0, 0, 0) == Int(p.pointee.no_exec_gain) else { refuse(r) { l in putProcess(i, &l); l.put("PR_SET_MDWE; this kernel lacks it") } }
    }
}

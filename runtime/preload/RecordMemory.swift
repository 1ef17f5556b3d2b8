// Runs in the SIGCKPT handler, every signal blocked.  What only the process itself can see of its memory's settings: NUMA policies, protection keys.
// The application's tasks are parked: what is changed to look is set back before any of them goes on.
import CkptABI
import PreloadBoot
import Freestanding

private let nodeWords = 16, nodeBits = 1024

/// A memory policy as get_mempolicy(2) shows it.  `error`: negative errno; −1 as well when it names a node beyond 63.
private func policy(at address: UInt64, byAddress: Bool) -> (mode: Int32, nodes: UInt64, error: Int32) {
    var mode: Int32 = 0, nodes = InlineArray<16, UInt64>(repeating: 0)
    let ofAddress = 2
    let r = withUnsafeMutableBytes(of: &nodes) { n in
        withUnsafeMutablePointer(to: &mode) {
            ckpt_syscall(CKPT_SYS_get_mempolicy, Int(bitPattern: $0), Int(bitPattern: n.baseAddress!), nodeBits, Int(bitPattern: UInt(address)), byAddress ? ofAddress : 0, 0)
        }
    }
    // ENOSYS: a kernel without NUMA has one policy only.
    if r == -38 { return (0, 0, 0) }
    if r < 0 { return (0, 0, Int32(truncatingIfNeeded: r)) }
    var i = 1
    while i < nodeWords { if nodes[i] != 0 { return (mode, nodes[0], -1) }; i += 1 }
    return (mode, nodes[0], 0)
}

func recordTaskPolicy(_ slot: UnsafeMutablePointer<ckpt_task>) {
    let p = policy(at: 0, byAddress: false)
    slot.pointee.policy = p.mode; slot.pointee.policy_nodes = p.nodes; slot.pointee.policy_error = p.error
}

/// A mapping without a policy shows its task's: so the leader's is the default while it looks.
func recordPolicies(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let queries = ckpt_arena(session, process.pointee.policies_offset).assumingMemoryBound(to: ckpt_policy_query.self)
    let own = policy(at: 0, byAddress: false)
    if own.mode != 0 { _ = ckpt_syscall(CKPT_SYS_set_mempolicy, 0, 0, 0, 0, 0, 0) }
    var i = 0
    while i < Int(process.pointee.policies_count) {
        let p = policy(at: queries[i].address, byAddress: true)
        queries[i].mode = p.mode; queries[i].nodes = p.nodes; queries[i].error = p.error
        i += 1
    }
    if own.mode != 0 {
        var nodes = InlineArray<16, UInt64>(repeating: 0)
        nodes[0] = own.nodes
        // The mask's size counts one bit more than it has.
        _ = withUnsafeMutableBytes(of: &nodes) {
            ckpt_syscall(CKPT_SYS_set_mempolicy, Int(own.mode), own.nodes == 0 ? 0 : Int(bitPattern: $0.baseAddress!), own.nodes == 0 ? 0 : nodeBits + 1, 0, 0, 0)
        }
    }
}

/// The keys that pkey_alloc(2) does not give any more are those that the program has; what it gives goes back at once.
/// The register (PKRU) that this changes is the handler's: the interrupted code's is in the signal frame.
func recordProtectionKeys(_ process: UnsafeMutablePointer<ckpt_process>) {
    guard ckpt_has_protection_keys() else { return }
    var free: UInt32 = 0
    var i = 0
    while i < 16 {
        let key = ckpt_syscall(CKPT_SYS_pkey_alloc, 0, 0, 0, 0, 0, 0)
        if key < 0 || key > 15 { break }
        free |= 1 << UInt32(key)
        i += 1
    }
    var key: UInt32 = 1
    while key < 16 {
        if free & 1 << key != 0 { _ = ckpt_syscall(CKPT_SYS_pkey_free, Int(key), 0, 0, 0, 0, 0) }
        key += 1
    }
    process.pointee.protection_keys = ~free & 0xfffe
}

/// What later mappings are subject to, and registrations that only the kernel has.
func recordMemoryRules(_ process: UnsafeMutablePointer<ckpt_process>) {
    let registrations = 512             // MEMBARRIER_CMD_GET_REGISTRATIONS
    process.pointee.membarrier = UInt32(truncatingIfNeeded: max(0, ckpt_syscall(CKPT_SYS_membarrier, registrations, 0, 0, 0, 0, 0)))
    process.pointee.no_exec_gain = UInt8(truncatingIfNeeded: max(0, ckpt_prctl(Prctl.getExecGain, 0, 0, 0, 0)))
    process.pointee.confined = ckpt_runtime().pointee.is_confined != 0 || ckpt_runtime().pointee.session.map { ckpt_confined($0).pointee.more != 0 } == true ? 1 : 0
    process.pointee.has_moved = ckpt_runtime().pointee.has_moved != 0 ? 1 : 0
    var entry: UInt64 = 0
    process.pointee.has_segments = ckpt_syscall(CKPT_SYS_modify_ldt, 0, withUnsafeMutablePointer(to: &entry) { Int(bitPattern: $0) }, 8, 0, 0, 0) > 0 ? 1 : 0
    process.pointee.future_locks = futureLocks()
}

/// Nothing shows MCL_FUTURE but what becomes of a new mapping: msync(2) refuses to drop what is locked, and without MCL_ONFAULT its page is there.
private func futureLocks() -> UInt8 {
    let page = 4096, invalidate = 2, busy = -16, mayNotLockMore = -11
    let at = ckpt_mmap(0, UInt64(page), 3, 0x22, -1, 0)
    if at == mayNotLockMore { return UInt8(CKPT_LOCKS_FUTURE.rawValue) }
    if at < 0 && at > -4096 { return UInt8(CKPT_LOCKS_NOTHING.rawValue) }
    var isThere: UInt8 = 0, locks = CKPT_LOCKS_NOTHING
    if ckpt_syscall(CKPT_SYS_msync, at, page, invalidate, 0, 0, 0) == busy {
        _ = ckpt_syscall(CKPT_SYS_mincore, at, page, withUnsafeMutablePointer(to: &isThere) { Int(bitPattern: $0) }, 0, 0, 0)
        locks = isThere & 1 != 0 ? CKPT_LOCKS_FUTURE : CKPT_LOCKS_ON_FAULT
    }
    _ = ckpt_munmap(UInt64(at), UInt64(page))
    return UInt8(locks.rawValue)
}

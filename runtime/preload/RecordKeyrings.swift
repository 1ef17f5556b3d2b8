// Runs in the SIGCKPT handler, every signal blocked.
// Which keyrings a task has for itself only the task can ask.  To ask for the session's makes the user's default ones, so it is asked
// only where the user has keys at all.
import CkptABI
import PreloadBoot
import Freestanding

private enum Keyring { static let thread = -1, process = -2, session = -3, user = -4, userSession = -5 }

/// keyctl(2), KEYCTL_GET_KEYRING_ID: its serial number, and none is made.
private func serial(_ which: Int) -> Int { ckpt_syscall(CKPT_SYS_keyctl, 0, which, 0, 0, 0, 0) }

func recordKeyrings(_ slot: UnsafeMutablePointer<ckpt_task>) {
    guard let session = ckpt_runtime().pointee.session, session.pointee.ask_keyrings != 0 else { return }
    if serial(Keyring.thread) > 0 { slot.pointee.keyrings |= CKPT_KEYRING_THREAD.rawValue }
    if serial(Keyring.process) > 0 { slot.pointee.keyrings |= CKPT_KEYRING_PROCESS.rawValue }
    let mine = serial(Keyring.session)
    if mine <= 0 || mine == serial(Keyring.userSession) { return }
    slot.pointee.session_keyring = Int32(truncatingIfNeeded: mine)
    if hasKeys(mine) { slot.pointee.keyrings |= CKPT_KEYRING_SESSION_KEYS.rawValue }
}

/// A user's own keyring, also that of an outer user namespace: KEYCTL_DESCRIBE says "keyring;UID;GID;PERM;_uid.UID".
private func isUsers(_ key: Int) -> Bool {
    let describe = 6
    var text = InlineArray<8, UInt64>(repeating: 0), span = text.mutableSpan
    return span.withUnsafeMutableBytes { b in
        let size = ckpt_syscall(CKPT_SYS_keyctl, describe, key, Int(bitPattern: b.baseAddress!), b.count, 0, 0)
        guard size > 0, size <= b.count else { return false }
        func has(_ word: StaticString, at from: Int) -> Bool {
            if from + word.utf8CodeUnitCount > size { return false }
            var i = 0
            while i < word.utf8CodeUnitCount { if b[from + i] != word.utf8Start[i] { return false }; i += 1 }
            return true
        }
        var i = 0, fields = 0
        while i < size && fields < 4 { if b[i] == 0x3b { fields += 1 }; i += 1 }
        return has("keyring;", at: 0) && has("_uid.", at: i)
    }
}

/// A login's session keyring holds a link to the user's own keyring; anything else would be lost.
private func hasKeys(_ keyring: Int) -> Bool {
    let read = 11
    var keys = InlineArray<8, Int32>(repeating: 0)
    var span = keys.mutableSpan
    let size = span.withUnsafeMutableBytes { ckpt_syscall(CKPT_SYS_keyctl, read, keyring, Int(bitPattern: $0.baseAddress!), $0.count, 0, 0) }
    if size < 0 || size > 32 { return true }
    var i = 0
    while i < size / 4 {
        if Int(keys[i]) != serial(Keyring.user) && !isUsers(Int(keys[i])) { return true }
        i += 1
    }
    return false
}

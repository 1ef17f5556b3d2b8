// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
// A Unix socket keeps the name that it was bound to, also when the file and its folder are gone.  Such a name can only be taken where the folder is: it
// is made for a moment, and removed when all sockets have their names, or when the restart fails.
import CkptABI
import EngineBoot
import Freestanding

/// bind(2) to a sockaddr_un with `n` bytes; returns 0, a negative errno, or why the name stays taken.
func bind(_ fd: Int32, to address: UnsafeMutableRawPointer, _ n: Int, as o: FileOwner = FileOwner(user: 0, group: 0)) -> Int {
    let r = system(CKPT_SYS_bind, Int(fd), int(address), n), noEntry = -2
    let path = (address + 2).assumingMemoryBound(to: CChar.self)
    guard r == noEntry, n > 3, path[0] == slash else { return r }
    guard makeFolders(of: path, o) else { return Taken.tooManyFolders }
    return system(CKPT_SYS_bind, Int(fd), int(address), n)
}

private let slash: CChar = 47

private func makeFolders(of path: UnsafeMutablePointer<CChar>, _ o: FileOwner) -> Bool {
    var k = 1, isNoted = true
    while path[k] != 0 && isNoted {
        if path[k] == slash {
            path[k] = 0
            if system(CKPT_SYS_mkdir, int(path), 0o700) == 0 { isNoted = note(path, k + 1, o) }
            path[k] = slash
        }
        k += 1
    }
    return isNoted
}
/// A path with its NUL, as whom it was made, and how long that is.
private func note(_ path: UnsafeMutablePointer<CChar>, _ n: Int, _ o: FileOwner) -> Bool {
    let s = state, used = Int(s.pointee.folders_used), size = n + 16
    guard used + size <= Int(ENGINE_FOLDER_TEXT) else {
        _ = system(CKPT_SYS_rmdir, int(path))
        return false
    }
    let to = UnsafeMutableRawPointer(engine_folders() + used)
    memcpyBytes(to, UnsafeRawPointer(path), n)
    to.storeBytes(of: o.user, toByteOffset: n, as: UInt32.self)
    to.storeBytes(of: o.group, toByteOffset: n + 4, as: UInt32.self)
    to.storeBytes(of: o.isAlone ? 1 : 0, toByteOffset: n + 8, as: UInt32.self)
    to.storeBytes(of: UInt32(size), toByteOffset: n + 12, as: UInt32.self)
    s.pointee.folders_used = UInt32(used + size)
    return true
}

/// The last one first: it may lie in one before.
func removeFolders() {
    let folders = UnsafeMutableRawPointer(engine_folders())
    var end = Int(state.pointee.folders_used)
    while end > 0 {
        let path = folders + (end - Int(field(folders, end - 4, UInt32.self))), isAlone = field(folders, end - 8, UInt32.self) != 0
        let o = FileOwner(user: field(folders, end - 16, UInt32.self), group: field(folders, end - 12, UInt32.self), isAlone: isAlone)
        _ = isAlone ? call(as: o, OwnerCall.removeFolder, path) : system(CKPT_SYS_rmdir, int(path))
        end = path - folders
    }
    state.pointee.folders_used = 0
}

// MARK: a restart that is given up

/// From here on there may be folders that nobody knows but this process.
func holdNames() {
    if state.pointee.names_held == 0 { state.pointee.names_held = 1; _ = ckpt_add(&board.pointee.names_held, 1) }
    giveUpIfAborted()
}
func leaveNames() {
    if state.pointee.names_held != 0 { state.pointee.names_held = 0; _ = ckpt_add(&board.pointee.names_held, UInt32.max) }
}
/// Who gives the restart up waits for that (awaitNames); a signal tells the engine to.
func giveUpIfAborted() {
    if state.pointee.names_held == 0 { return }
    if state.pointee.is_engine != 0 && interrupted() { refuseInterrupted() }
    guard ckpt_load(&board.pointee.stage) == ENGINE_STAGE_ABORT.rawValue else { return }
    removeAllNames()
    abortBuilder()
}
func removeAllNames() {
    removeHiddenFiles()
    removeFolders()
    leaveNames()
}
/// In the engine, before it kills them.
func awaitNames() {
    var patience = 0
    while ckpt_load(&board.pointee.names_held) != 0 && patience < 500 && !isEnded(state.pointee.init_pid) { patience += 1; pauseBriefly() }
}

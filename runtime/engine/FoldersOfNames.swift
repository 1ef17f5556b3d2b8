// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
// A Unix socket keeps the name that it was bound to, also when the file and its folder are gone.  Such a name can only be taken where the folder is: it
// is made for a moment, and removed when all sockets have their names, or when the restart fails.
import CkptABI
import EngineBoot
import Freestanding

/// bind(2) to a sockaddr_un with `n` bytes; returns 0 or a negative errno.
func bind(_ fd: Int32, to address: UnsafeMutableRawPointer, _ n: Int) -> Int {
    let r = system(CKPT_SYS_bind, Int(fd), int(address), n), noEntry = -2
    let path = (address + 2).assumingMemoryBound(to: CChar.self)
    guard r == noEntry, n > 3, path[0] == slash else { return r }
    makeFolders(of: path)
    return system(CKPT_SYS_bind, Int(fd), int(address), n)
}

private let slash: CChar = 47

private func makeFolders(of path: UnsafeMutablePointer<CChar>) {
    var k = 1
    while path[k] != 0 {
        if path[k] == slash {
            path[k] = 0
            if system(CKPT_SYS_mkdir, int(path), 0o700) == 0 { note(path, k + 1) }
            path[k] = slash
        }
        k += 1
    }
}
private func note(_ path: UnsafeMutablePointer<CChar>, _ size: Int) {
    let used = Int(state.pointee.folders_used)
    guard used + size <= Int(ENGINE_FOLDER_TEXT) else {
        _ = system(CKPT_SYS_rmdir, int(path))
        refuse(.lacks) { l in l.put("folder "); l.put(text: Text(path)); l.put(": too many names of sockets lie in folders that are gone; make it before the restart") }
    }
    for i in 0..<size { engine_folders()[used + i] = path[i] }
    state.pointee.folders_used = UInt32(used + size)
}

/// The last one first: it may lie in one before.
func removeFolders() {
    var end = Int(state.pointee.folders_used)
    while end > 0 {
        var start = end - 1
        while start > 0 && engine_folders()[start - 1] != 0 { start -= 1 }
        _ = system(CKPT_SYS_rmdir, int(engine_folders() + start))
        end = start
    }
    state.pointee.folders_used = 0
}

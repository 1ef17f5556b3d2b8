// Runs in the engine (find, park) and in each process of the tree (place, redirect), on the region's main stack; no allocation, no libc.
// The kernel's vdso moves with mremap(2).  First to its home behind the region, where it meets nobody; then, where it is the very one of the
// checkpoint, to the old place.  Else it stays at home and the old one's functions, which the program may have bound, jump to it.
import CkptABI
import EngineBoot
import Freestanding

/// Reads where the kernel put [vvar…] and [vdso].
func findVdso() {
    let fd = Int32(truncatingIfNeeded: ckpt_open(StaticString("/proc/self/maps").cString, 0o2000000, 0))
    guard fd >= 0 else { return }
    let buffer = anonymous(65536)
    var have = 0
    while true {
        let n = ckpt_read(fd, buffer + have, 65535 - have)
        if n <= 0 { break }
        have += n
    }
    _ = ckpt_close(fd)
    var from = 0
    for i in 0..<have where field(buffer, i, UInt8.self) == 10 {
        (buffer + i).storeBytes(of: 0, as: UInt8.self)
        readMapsLine(Text((buffer + from).assumingMemoryBound(to: CChar.self)))
        from = i + 1
    }
    _ = ckpt_munmap(UInt64(UInt(bitPattern: buffer)), 65536)
    var size: UInt64 = 0
    for k in 0..<state.pointee.vdso_pieces { size += engine_vdso_piece(k).pointee.size }
    state.pointee.vdso_home_size = size
    let s = state
    s.pointee.vdso_matches = s.pointee.vdso_text_size != 0 && s.pointee.vdso_text_size == UInt64(tree.pointee.vdso_size)
        && ckpt_crc32c_hw(0, UnsafeRawPointer(bitPattern: UInt(s.pointee.vdso_text))!, Int(s.pointee.vdso_text_size)) == tree.pointee.vdso_crc ? 1 : 0
}

private func hexadecimal(_ t: Text, _ i: inout Int) -> UInt64 {
    var v: UInt64 = 0
    while true {
        let c = t[i]
        if c >= 48 && c <= 57 { v = v << 4 | UInt64(c - 48) } else if c >= 97 && c <= 102 { v = v << 4 | UInt64(c - 87) } else { return v }
        i += 1
    }
}
private func readMapsLine(_ line: Text) {
    let isText = hasSuffix(line, "[vdso]")
    guard isText || hasSuffix(line, "[vvar]") || hasSuffix(line, "[vvar_vclock]") else { return }
    let s = state
    var i = 0
    let start = hexadecimal(line, &i)
    i += 1
    let end = hexadecimal(line, &i)
    guard s.pointee.vdso_pieces < UInt32(ENGINE_VDSO_PIECES) else { return }
    engine_vdso_piece(s.pointee.vdso_pieces).pointee = engine_piece(start: start, size: end - start)
    s.pointee.vdso_pieces += 1
    if isText { s.pointee.vdso_text = start; s.pointee.vdso_text_size = end - start }
}

/// Moves all pieces, in their order, to `to`.
private func moveVdso(to: UInt64) {
    let s = state
    var at = to
    for k in 0..<s.pointee.vdso_pieces {
        let piece = engine_vdso_piece(k)
        if piece.pointee.start == at { at += piece.pointee.size; continue }
        let m = system(CKPT_SYS_mremap, int(piece.pointee.start), int(piece.pointee.size), int(piece.pointee.size), 3, int(at))
        guard !failed(m) else { refuse(m) { $0.put("the kernel's vdso cannot be moved (sealed?); start the kernel without CONFIG_MSEAL_SYSTEM_MAPPINGS") } }
        if piece.pointee.start == s.pointee.vdso_text { s.pointee.vdso_text = at }
        piece.pointee.start = at
        at += piece.pointee.size
    }
}
func parkVdso() { if state.pointee.vdso_home_size > 0 { moveVdso(to: state.pointee.vdso_home) } }

/// Same kernel: to where it was.  Another: room for the old one's pages, which the runs bring.
func placeVdso(_ i: Int) {
    let p = processes[i], s = state
    if s.pointee.vdso_matches != 0 && p.pointee.vvar_size + p.pointee.vdso_size != s.pointee.vdso_home_size { s.pointee.vdso_matches = 0 }
    if p.pointee.vdso_size == 0 {
        // A program that had unmapped it finds none.
        _ = ckpt_munmap(s.pointee.vdso_home, s.pointee.vdso_home_size)
        return
    }
    if s.pointee.vdso_matches != 0 { return moveVdso(to: min(p.pointee.vdso_address, p.pointee.vvar_size == 0 ? UInt64.max : p.pointee.vvar_address)) }
    let m = ckpt_mmap(p.pointee.vdso_address, p.pointee.vdso_size, 7, 0x100022, -1, 0)
    guard !failed(m) else { refuse(m) { l in putThisProcess(&l); l.put("room for the old vdso") } }
}

func finishVdso(_ i: Int) {
    let p = processes[i], s = state
    guard p.pointee.vdso_size != 0, s.pointee.vdso_matches == 0 else { return }
    let old = Elf(p.pointee.vdso_address, p.pointee.vdso_size)
    guard s.pointee.vdso_text_size != 0, let old, let new = Elf(s.pointee.vdso_text, s.pointee.vdso_text_size) else {
        refuse(.lacks) { l in putThisProcess(&l); l.put("the vdso of another kernel, and its pages are not in the statefile; restart it under the kernel of the checkpoint") }
    }
    refuseInsideVdso(i)
    old.redirect(to: new)
    _ = ckpt_mprotect(p.pointee.vdso_address, p.pointee.vdso_size, 5)
}

/// A task in the middle of an old function would read data pages that are gone.
private func refuseInsideVdso(_ i: Int) {
    let p = processes[i]
    for k in 0..<p.pointee.task_count {
        let t = tasks[p.pointee.first_task + k]
        guard let frame = UnsafePointer<ckpt_ucontext>(bitPattern: UInt(t.pointee.ucontext)) else { continue }
        let rip = frame.pointee.mc.rip
        if rip >= p.pointee.vdso_address && rip < p.pointee.vdso_address + p.pointee.vdso_size {
            refuse(.lacks) { l in
                putThisProcess(&l); l.put("tid "); l.put(signed: Int64(t.pointee.tid))
                l.put(": was reading the clock of another kernel at the checkpoint; take another checkpoint, or restart it under the kernel of this one")
            }
        }
    }
}

/// The dynamic symbols of a vdso image in memory; its own dynsym directly precedes its dynstr.
private struct Elf {
    let base: UInt64, size: UInt64
    var symbols: UInt64 = 0, strings: UInt64 = 0

    init?(_ base: UInt64, _ size: UInt64) {
        self.base = base; self.size = size
        guard size >= 64, word(0, UInt32.self) == 0x464c457f else { return nil }
        let phoff = word(32, UInt64.self), phnum = UInt64(word(56, UInt16.self))
        guard phoff < size, phoff + phnum * 56 <= size else { return nil }
        var load: UInt64? = nil, dynamic: UInt64? = nil
        for k in 0..<phnum {
            let type = word(phoff + k * 56, UInt32.self), va = word(phoff + k * 56 + 16, UInt64.self)
            if type == 1 && load == nil { load = va }
            if type == 2 { dynamic = va }
        }
        guard let load, let dynamic, dynamic >= load else { return nil }
        var at = dynamic - load
        while at + 16 <= size {
            let tag = word(at, UInt64.self), value = word(at + 8, UInt64.self)
            if tag == 0 { break }
            if tag == 5 { strings = value &- load }
            if tag == 6 { symbols = value &- load }
            at += 16
        }
        guard symbols != 0, strings > symbols, strings < size else { return nil }
    }
    private func word<T>(_ at: UInt64, _ type: T.Type) -> T { UnsafeRawPointer(bitPattern: UInt(base + at))!.loadUnaligned(as: type) }
    private var count: UInt64 { (strings - symbols) / 24 }
    private func name(_ k: UInt64) -> Text? {
        let at = strings + UInt64(word(symbols + k * 24, UInt32.self))
        return at < size ? Text(bitPattern: UInt(base + at)) : nil
    }
    private func isFunction(_ k: UInt64) -> Bool { word(symbols + k * 24 + 4, UInt8.self) & 15 == 2 && word(symbols + k * 24 + 6, UInt16.self) != 0 }
    private func value(_ k: UInt64) -> UInt64 { base + word(symbols + k * 24 + 8, UInt64.self) }

    /// Overwrites the entry of each function with `movabs $new, %rax; jmp *%rax`.
    func redirect(to new: Elf) {
        for k in 0..<count where isFunction(k) {
            guard let n = name(k) else { continue }
            for j in 0..<new.count where new.isFunction(j) {
                guard let m = new.name(j), equal(n, m) else { continue }
                let at = UnsafeMutableRawPointer(bitPattern: UInt(value(k)))!
                guard value(k) + 12 <= base + size else { break }
                at.storeBytes(of: 0xb848, as: UInt16.self)
                (at + 2).storeBytes(of: new.value(j), as: UInt64.self)
                (at + 10).storeBytes(of: 0xe0ff, as: UInt16.self)
                break
            }
        }
    }
}

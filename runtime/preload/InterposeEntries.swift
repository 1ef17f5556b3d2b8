// Runs inside applications, on the caller's stack, also before any constructor and in vfork children: no libc, no lock, no allocation.
// Finds libc's own functions through the program's link map: dlsym would be an undefined symbol (and is in libdl before glibc 2.34).
import CkptABI
import PreloadBoot
import Freestanding

/// libc's own function behind a wrapper; nil if no object behind ours has it.
@inline(__always) func real<F>(_ entry: Int, as: F.Type) -> F? {
    let known = ckpt_load64(interpose_entry_slot(Int32(truncatingIfNeeded: entry)))
    return unsafeBitCast(known != 0 ? known : findEntry(entry), to: F?.self)
}
/// The same for the C wrappers.
@c(interpose_real) func realForC(_ entry: Int32) -> UInt64 {
    let known = ckpt_load64(interpose_entry_slot(entry))
    return known != 0 ? known : findEntry(Int(entry))
}

typealias ErrnoLocation = @convention(c) () -> UnsafeMutablePointer<Int32>
/// Sets libc's errno and returns −1.
@discardableResult
func fail(_ code: Int32) -> Int32 {
    if let location = real(INTERPOSE___errno_location, as: ErrnoLocation.self) { location().pointee = code }
    return -1
}
@c(interpose_fail) func failForC(_ code: Int32) -> Int32 { fail(code) }
let ENOSYS: Int32 = 38, EINVAL: Int32 = 22

@inline(never) private func findEntry(_ entry: Int) -> UInt64 {
    guard let ours = ownObject() else { return 0 }
    let name = interpose_entry_name(Int32(truncatingIfNeeded: entry))
    let found = findSymbol(name, from: ours.next)
    if found != 0 { ckpt_store64(interpose_entry_slot(Int32(truncatingIfNeeded: entry)), found) }
    return found
}

/// libc's `environ`: the program's copy if it has one, as for any reference to it.
func environmentVariable() -> UnsafeMutablePointer<Strings?>? {
    var at = ckpt_load64(&interpose_state().pointee.environment)
    if at == 0, ownObject() != nil {
        let first = LoadedObject(address: ckpt_load64(&interpose_state().pointee.first_object))
        at = findSymbol(StaticString("environ").cString, from: first)
        ckpt_store64(&interpose_state().pointee.environment, at)
    }
    return UnsafeMutablePointer(bitPattern: UInt(at))
}

/// An object of libc's, looked up as the program itself would; 0: none.  For the constructor: dlopen changes the list that this walks.
func libcObject(_ name: StaticString) -> UInt64 {
    guard ownObject() != nil else { return 0 }
    return findSymbol(name.cString, from: LoadedObject(address: ckpt_load64(&interpose_state().pointee.first_object)))
}

/// struct link_map of <link.h>: base, name, dynamic section, next, previous.
private struct LoadedObject {
    let map: UnsafePointer<UInt64>
    init?(address: UInt64) {
        guard let p = UnsafePointer<UInt64>(bitPattern: UInt(address)) else { return nil }
        map = p
    }
    var base: UInt64 { map[0] }
    var dynamic: UnsafePointer<UInt64>? { UnsafePointer(bitPattern: UInt(map[2])) }
    var next: LoadedObject? { LoadedObject(address: map[3]) }
    var address: UInt64 { UInt64(UInt(bitPattern: map)) }
}

private func ownObject() -> LoadedObject? {
    let known = ckpt_load64(&interpose_state().pointee.objects)
    if known != 0 { return LoadedObject(address: known) }
    let first = firstObject()
    var object = LoadedObject(address: first)
    while let o = object {
        if o.map[2] == interpose_own_dynamic() {
            ckpt_store64(&interpose_state().pointee.first_object, first)
            ckpt_store64(&interpose_state().pointee.objects, o.address)
            return o
        }
        object = o.next
    }
    return nil
}

/// The head of the link map, from the program headers that the kernel names in the auxiliary vector.
private func firstObject() -> UInt64 {
    var vector = InlineArray<64, UInt64>(repeating: 0)
    var span = vector.mutableSpan
    let bytes = span.withUnsafeMutableBytes { b in
        var n = ckpt_prctl(0x41555856 /* PR_GET_AUXV */, Int(bitPattern: b.baseAddress!), b.count, 0, 0)
        if n < 0 {      // before Linux 6.4
            let fd = ckpt_open(StaticString("/proc/self/auxv").cString, 0o2000000, 0)
            if fd >= 0 { n = ckpt_read(Int32(truncatingIfNeeded: fd), b.baseAddress!, b.count); _ = ckpt_close(Int32(truncatingIfNeeded: fd)) }
        }
        return n
    }
    var headers: UInt64 = 0, count: UInt64 = 0, i = 0
    while i &+ 1 < 64 && i &* 8 < bytes && vector[i] != 0 {
        if vector[i] == 3 { headers = vector[i &+ 1] }
        if vector[i] == 5 { count = vector[i &+ 1] }
        i &+= 2
    }
    guard let header = UnsafePointer<UInt64>(bitPattern: UInt(headers)) else { return 0 }
    return debugMap(header, count)
}

/// r_debug.r_map by DT_DEBUG; a loader that was started by hand shows its own program headers, and exports `_r_debug` instead.
private func debugMap(_ headers: UnsafePointer<UInt64>, _ count: UInt64) -> UInt64 {
    var base: UInt64 = 0, dynamic: UInt64 = 0
    for i in 0 ..< Int(truncatingIfNeeded: count) {
        let h = headers + i &* 7            // Elf64_Phdr: type and flags, offset, vaddr, …
        switch UInt32(truncatingIfNeeded: h[0]) {
        case 6: base = UInt64(UInt(bitPattern: headers)) &- h[2]
        case 2: dynamic = h[2]
        default: break
        }
    }
    guard dynamic != 0, var d = UnsafePointer<UInt64>(bitPattern: UInt(base &+ dynamic)) else { return 0 }
    let start = d
    var debug: UInt64 = 0
    while d[0] != 0 { if d[0] == 21 { debug = d[1] }; d += 2 }
    if debug == 0 { debug = findSymbol(StaticString("_r_debug").cString, base: base, dynamic: start).address }
    guard let r = UnsafePointer<UInt64>(bitPattern: UInt(debug)) else { return 0 }
    return r[1]
}

/// Where the first object that defines `name` has it.
private func findSymbol(_ name: UnsafePointer<CChar>, from: LoadedObject?) -> UInt64 {
    var object = from
    var compatible: UInt64 = 0
    while let o = object {
        if let dynamic = o.dynamic {
            let found = findSymbol(name, base: o.base, dynamic: dynamic)
            if found.address != 0 {
                if !found.hidden { return found.address }
                if compatible == 0 { compatible = found.address }
            }
        }
        object = o.next
    }
    return compatible
}

private struct FoundSymbol { var address: UInt64 = 0; var hidden = false }

private struct SymbolTable {
    var symbols: UInt64 = 0, strings: UInt64 = 0, versions: UInt64 = 0, gnuHash: UInt64 = 0, hash: UInt64 = 0
    let base: UInt64
    init(base: UInt64, dynamic: UnsafePointer<UInt64>) {
        self.base = base
        var d = dynamic
        while d[0] != 0 {
            switch d[0] {
            case 6: symbols = d[1]
            case 5: strings = d[1]
            case 0x6fff_fff0: versions = d[1]
            case 0x6fff_fef5: gnuHash = d[1]
            case 4: hash = d[1]
            default: break
            }
            d += 2
        }
        symbols = located(symbols); strings = located(strings); versions = located(versions)
        gnuHash = located(gnuHash); hash = located(hash)
    }
    /// glibc relocates the dynamic section in place, musl and the vdso don't.
    private func located(_ v: UInt64) -> UInt64 { v == 0 || v >= base ? v : base &+ v }

    /// A definition under this name, its default version before an old one.
    func symbol(_ index: UInt32, _ name: UnsafePointer<CChar>) -> FoundSymbol? {
        let at = symbols &+ UInt64(index) &* 24
        let s = UnsafePointer<UInt32>(bitPattern: UInt(at))!
        let info = UInt8(truncatingIfNeeded: s[1]), section = UInt16(truncatingIfNeeded: s[1] >> 16)
        let value = UnsafePointer<UInt64>(bitPattern: UInt(at &+ 8))!.pointee
        let type = info & 15, binding = info >> 4
        guard section != 0, value != 0, binding == 1 || binding == 2 || binding == 10, type <= 2 || type == 10 else { return nil }
        guard same(name, UnsafePointer<CChar>(bitPattern: UInt(strings &+ UInt64(s[0])))!) else { return nil }
        var found = FoundSymbol(address: base &+ value)
        if type == 10 { found.address = UInt64(bitPattern: Int64(interpose_call_resolver(found.address))) }
        if versions != 0 { found.hidden = UnsafePointer<UInt16>(bitPattern: UInt(versions))![Int(index)] & 0x8000 != 0 }
        return found
    }
}

private func same(_ a: UnsafePointer<CChar>, _ b: UnsafePointer<CChar>) -> Bool {
    var i = 0
    while a[i] == b[i] { if a[i] == 0 { return true }; i &+= 1 }
    return false
}

private func findSymbol(_ name: UnsafePointer<CChar>, base: UInt64, dynamic: UnsafePointer<UInt64>) -> FoundSymbol {
    let table = SymbolTable(base: base, dynamic: dynamic)
    guard table.symbols != 0, table.strings != 0 else { return FoundSymbol() }
    if table.gnuHash != 0 { return findByGNUHash(name, table) }
    return table.hash != 0 ? findByHash(name, table) : FoundSymbol()
}

private func findByGNUHash(_ name: UnsafePointer<CChar>, _ table: SymbolTable) -> FoundSymbol {
    var h: UInt32 = 5381, i = 0
    while name[i] != 0 { h = h &* 33 &+ UInt32(UInt8(bitPattern: name[i])); i &+= 1 }
    let head = UnsafePointer<UInt32>(bitPattern: UInt(table.gnuHash))!
    let buckets = head[0], firstSymbol = head[1], filterWords = head[2], shift = head[3]
    guard buckets != 0, filterWords != 0 else { return FoundSymbol() }
    let filter = UnsafePointer<UInt64>(bitPattern: UInt(table.gnuHash &+ 16))!
    let word = filter[Int((h / 64) % filterWords)]
    guard word >> UInt64(h % 64) & 1 == 1, word >> UInt64((h >> (shift & 31)) % 64) & 1 == 1 else { return FoundSymbol() }
    let bucket = head + (4 &+ Int(filterWords) &* 2)
    let chain = bucket + Int(buckets)
    var index = bucket[Int(h % buckets)]
    guard index >= firstSymbol else { return FoundSymbol() }
    var old = FoundSymbol()
    while true {
        let link = chain[Int(index &- firstSymbol)]
        if (link ^ h) >> 1 == 0, let found = table.symbol(index, name) {
            if !found.hidden { return found }
            if old.address == 0 { old = found }
        }
        if link & 1 == 1 { return old }
        index &+= 1
    }
}

private func findByHash(_ name: UnsafePointer<CChar>, _ table: SymbolTable) -> FoundSymbol {
    var h: UInt32 = 0, i = 0
    while name[i] != 0 {
        h = h << 4 &+ UInt32(UInt8(bitPattern: name[i])); i &+= 1
        let top = h & 0xf000_0000
        h = (h ^ top >> 24) & ~top
    }
    let head = UnsafePointer<UInt32>(bitPattern: UInt(table.hash))!
    guard head[0] != 0 else { return FoundSymbol() }
    var index = head[Int(2 &+ h % head[0])], old = FoundSymbol()
    while index != 0 {
        if let found = table.symbol(index, name) {
            if !found.hidden { return found }
            if old.address == 0 { old = found }
        }
        index = head[Int(2 &+ head[0] &+ index)]
    }
    return old
}

// Runs in the engine before the tree exists; no allocation, no libc.
// Whether this machine can go on with what the program may have cached: CPU features (glibc's ifuncs) and clocks.
import CkptABI
import EngineBoot
import Freestanding

/// Bits of each recorded word that a program can depend on: not those of the kernel, of hypervisors and of mitigations.
private func dependable(_ word: Int) -> UInt32 {
    switch word {
    case 0: 0x7ed83203      // leaf 1 ecx: SSE3 PCLMUL SSSE3 FMA CX16 SSE4 MOVBE POPCNT AES XSAVE OSXSAVE AVX F16C RDRAND
    case 1: 0x7808111       // leaf 1 edx: FPU TSC CX8 CMOV MMX FXSR SSE SSE2
    case 2: 0xfdaf0b39      // leaf 7 ebx: FSGSBASE BMI AVX2 ERMS RTM AVX512 RDSEED ADX CLFLUSHOPT CLWB SHA
    case 3: 0x1a405f42      // leaf 7 ecx: AVX512 extensions, GFNI, VAES, RDPID, CLDEMOTE, MOVDIRI
    case 4: 0x3c0413c       // leaf 7 edx: AVX512 extensions, FSRM, SERIALIZE, AMX
    case 5: 0xa01c30        // leaf 7.1 eax: AVX-VNNI, AVX512-BF16, FZRM, FSRS, FSRC, AMX-FP16, AVX-IFMA
    case 6: 0x2109e1        // leaf 0x80000001 ecx: LAHF LZCNT SSE4A PREFETCHW XOP FMA4 TBM
    case 7: 0xe8400800      // leaf 0x80000001 edx: SYSCALL RDTSCP LM 3DNow
    case 8: 0x7             // leaf 0xd.1 eax: XSAVEOPT XSAVEC XGETBV1
    default: 0
    }
}
private func featureName(_ word: Int, _ bit: Int) -> StaticString? {
    switch (word, bit) {
    case (0, 0): "SSE3"; case (0, 9): "SSSE3"; case (0, 12): "FMA"; case (0, 19): "SSE4.1"; case (0, 20): "SSE4.2"; case (0, 22): "MOVBE"; case (0, 23): "POPCNT"
    case (0, 25): "AES"; case (0, 26): "XSAVE"; case (0, 28): "AVX"; case (0, 29): "F16C"; case (0, 30): "RDRAND"
    case (2, 3): "BMI1"; case (2, 5): "AVX2"; case (2, 8): "BMI2"; case (2, 9): "ERMS"; case (2, 16): "AVX512F"; case (2, 17): "AVX512DQ"; case (2, 18): "RDSEED"
    case (2, 19): "ADX"; case (2, 28): "AVX512CD"; case (2, 29): "SHA"; case (2, 30): "AVX512BW"; case (2, 31): "AVX512VL"
    case (3, 1): "AVX512VBMI"; case (3, 8): "GFNI"; case (3, 9): "VAES"; case (3, 11): "AVX512VNNI"; case (4, 4): "FSRM"; case (4, 23): "AVX512FP16"; case (4, 24): "AMX-TILE"
    case (6, 5): "LZCNT"; case (8, 1): "XSAVEC"
    default: nil
    }
}

func checkCpu() {
    if state.pointee.ignore_cpu != 0 { return }
    var here = InlineArray<9, UInt32>(repeating: 0)
    withUnsafeMutableBytes(of: &here) { ckpt_cpu_words($0.baseAddress!.assumingMemoryBound(to: UInt32.self)) }
    for word in 0..<9 {
        let missing = ckpt_tree_cpuid(tree)[word] & dependable(word) & ~here[word]
        if missing == 0 { continue }
        let bit = missing.trailingZeroBitCount
        refuse(.lacks) { l in
            l.put("CPU: this machine lacks ")
            if let name = featureName(word, bit) { l.put(name) } else { l.put("feature "); l.put(decimal: UInt64(word)); l.put("."); l.put(decimal: UInt64(bit)) }
            l.put(", which the program may use; restart it on a machine that has it, or use --ignore-cpu")
        }
    }
    let lost = tree.pointee.xcr0 & ~ckpt_xgetbv()
    if lost != 0 {
        refuse(.lacks) { l in
            l.put("CPU: this machine lacks the extended state 0x"); l.put(hex: lost)
            l.put(" of the saved registers; restart it on a machine that has it, or use --ignore-cpu")
        }
    }
    // The frames in memory have the layout of the CPU that wrote them, and the kernel reads them with its own.
    if tree.pointee.xsave_size >= 576 && ckpt_xsave_layout(tree.pointee.xcr0) != tree.pointee.xsave_size {
        refuse(.lacks) { $0.put("CPU: this machine lays the saved registers out otherwise (CPUID leaf 0xd); restart it on a machine of the same vendor, or use --ignore-cpu") }
    }
}

/// A security module gives a program its label when it is executed, and here only the engine is: all processes get what it has.
func checkLabels() {
    if state.pointee.ignore_label != 0 { return }
    var here = InlineArray<512, CChar>(repeating: 0)
    let fd = Int32(truncatingIfNeeded: ckpt_open(StaticString("/proc/self/attr/current").cString, 0o2000000, 0))
    if fd >= 0 {
        let n = withUnsafeMutableBytes(of: &here) { ckpt_read(fd, $0.baseAddress!, 511) }
        _ = ckpt_close(fd)
        for k in 0..<max(0, n) where here[k] == 10 { here[k] = 0 }
    }
    for i in 0..<processes.count where processes[i].pointee.label != 0 {
        let label = bytes(processes[i].pointee.label)
        withUnsafeBytes(of: &here) { mine in
            let mine = mine.baseAddress!.assumingMemoryBound(to: CChar.self)
            if equal(label, mine) { return }
            refuse(.lacks) { l in
                putProcess(Int(i), &l); l.put("security label "); l.put(text: label); l.put(": this restart has ")
                if mine[0] == 0 { l.put("none") } else { l.put(text: mine) }
                l.put("; start it under that one (aa-exec -p, runcon), or use --ignore-label")
            }
        }
    }
}

func nanoseconds(_ clock: Int32) -> UInt64 {
    var t = ckpt_timespec(sec: 0, nsec: 0)
    _ = ckpt_clock(clock, &t)
    return UInt64(t.sec) * 1_000_000_000 + UInt64(t.nsec)
}

/// Without a time namespace the clocks are the machine's: they must not be behind.
func checkClocks() {
    if state.pointee.ignore_clock != 0 { return }
    let monotonic = nanoseconds(1) < tree.pointee.monotonic, boottime = nanoseconds(7) < tree.pointee.boottime
    if monotonic || boottime {
        refuse(.lacks) { l in
            l.put(monotonic ? "CLOCK_MONOTONIC" : "CLOCK_BOOTTIME")
            l.put(": would go backwards and no time namespace can be made here; use --pids ns, restart it as root, or use --ignore-clock")
        }
    }
}

/// --timing: the time since the last phase, in microseconds.
func timed(_ phase: StaticString) {
    guard state.pointee.timing != 0 else { return }
    let now = nanoseconds(1)
    var l = Line()
    l.put(text: engine_program()); l.put(": "); l.put(phase); l.put(": ")
    l.put(decimal: (now - state.pointee.clock_last) / 1000); l.put(" us\n")
    l.write(to: Descriptor(state.pointee.standard.2 > 0 ? state.pointee.standard.2 : 2))
    state.pointee.clock_last = now
}

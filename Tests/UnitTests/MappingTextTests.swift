// What smaps says of a mapping becomes its record.
@testable import CkptSession
import Testing

@Suite struct MappingTextTests {
    private static let text = """
        7f0000000000-7f0000003000 rw-p 00000000 00:00 0                          [anon:a name]
        Size:                 12 kB
        KernelPageSize:        4 kB
        MMUPageSize:           4 kB
        Rss:                   8 kB
        Anonymous:             4 kB
        Swap:                  4 kB
        ProtectionKey:        11
        VmFlags: rd wr mr mw me ac sl\u{20}
        7f0000200000-7f0000400000 rw-s 00000000 00:11 352878                     /anon_hugepage (deleted)
        KernelPageSize:     2048 kB
        Rss:                   0 kB
        Shared_Hugetlb:        0 kB
        Private_Hugetlb:    2048 kB
        ProtectionKey:         0
        VmFlags: rd wr sh mr mw me ms ht\u{20}

        """
    @Test func `keys, page sizes and amounts are read`() {
        let m = ProcMapping.parse(Array(Self.text.utf8))
        #expect(m.count == 2)
        #expect(m[0].protectionKey == 11 && m[0].anonymousBytes == 8192 && m[0].residentBytes == 12288 && m[0].kernelPageSize == 4096)
        #expect(m[0].flags.contains("sl") && m[0].name == "[anon:a name]")
        #expect(m[1].protectionKey == 0 && m[1].hugeBytes == 2 << 20 && m[1].kernelPageSize == 2 << 20 && m[1].flags.contains("ht"))
    }
}

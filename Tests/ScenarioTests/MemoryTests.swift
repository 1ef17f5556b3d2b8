// Memory comes back with its contents and as what it was: anonymous, shared, of a file, locked, advised, growing.
import Testing

@Suite struct MemoryTests {
    @Test func `memfds keep their seals, and what is mapped of them`() { feature("memfd-seals") }
    @Test func `private memory keeps its contents and stays anonymous memory`() { feature("memory-private") }
    @Test func `memory shared between processes stays shared`() { feature("memory-shared") }
    @Test func `modified pages of a private file mapping are kept, the others stay the file's`() { feature("memory-file") }
    @Test func `the heap keeps growing`() { feature("memory-brk") }
    @Test func `stacks keep growing`() { feature("memory-stack") }
    @Test func `protections and guards fault as before`() { feature("memory-protection") }
    @Test func `madvise settings and locks are unchanged`() { feature("memory-advice") }
    @Test func `mappings of deleted files are restored`() { feature("memory-deleted") }
    @Test func `clocks neither go back nor jump`() { feature("memory-clock") }
    @Test func `the memory map is the same, line by line`() { feature("memory-maps") }
    @Test func `memory on huge pages is unchanged`() { feature("memory-huge") }
    @Test func `a memfd is restored`() { feature("memory-memfd") }
}

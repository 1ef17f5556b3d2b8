// Threads come back with all that each has for itself, and glibc's synchronisation goes on.
import Testing

@Suite struct ThreadTests {
    @Test func `general, SSE, AVX and AVX-512 registers and control words are unchanged`() { feature("threads-registers") }
    @Test func `thread-local storage, thread-specific data and errno are unchanged`() { feature("threads-tls") }
    @Test func `restartable sequences stay registered`() { feature("threads-rseq") }
    @Test func `robust mutexes tell the next owner that their owner died`() { feature("threads-robust") }
    @Test func `every thread keeps its id, name, mask, alternate stack, slack, priority and affinity`() { feature("threads-attributes") }
    @Test func `signals pending for one thread stay pending with their siginfo`() { feature("threads-pending") }
    @Test func `mutexes, condition variables, semaphores, barriers, locks and joins go on`() { feature("threads-sync") }
    @Test func `a handler on an alternate stack and a smallest stack are restored in their midst`() { feature("threads-onstack") }
    @Test func `the futex word of clear_child_tid is cleared when the thread ends`() { feature("threads-cleartid") }
    @Test func `a thousand threads come back`() { feature("threads-many", ["1000"], treatments: [.restarted, .twice]) }
}

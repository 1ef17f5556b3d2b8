// Dispositions, masks, pending signals and timers are what they were.
import Testing

@Suite struct SignalTests {
    @Test func `every disposition is unchanged`() { feature("signals-dispositions") }
    @Test func `pending signals keep siginfo and order`() { feature("signals-pending") }
    @Test func `interval timers and POSIX timers keep their ids and what is left of them`() { feature("signals-timers") }
    @Test func `alarm, sigsuspend and sigwaitinfo go on`() { feature("signals-alarm") }
}

// What parents know of their children: who adopts whom, what has been collected, who waits.
import Testing

@Suite struct ChildTests {
    @Test func `stops and continuations are seen once when they were not collected, and not again when they were`() { feature("children-status") }
    @Test func `a sub-reaper in the tree has the orphans that it adopted, and gets those to come`() { feature("children-reaper") }
    @Test func `tasks that wait for children get what they waited for, once`() { feature("children-waiting") }
    @Test func `every thread has the signal that it gets when its parent ends`() { feature("children-deathsignal") }
    @Test func `children are stopped in any pid namespace`() {
        feature("children-status", treatments: [.twice], users: [.root].filter(User.available.contains), pids: ["ns"])
    }
}

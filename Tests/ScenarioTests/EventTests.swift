// Event descriptors: eventfd, timerfd, signalfd, epoll, inotify, pidfd.
import Foundation
import Glibc
import Testing

@Suite struct EventTests {
    @Test func `counts, expirations, signal sets and the time that is left come back`() { feature("events-counters") }
    @Test func `epoll instances watch what they watched, whatever number it has now`() { feature("events-epoll") }
    @Test func `inotify's watches keep their numbers, masks and files`() { feature("events-inotify") }
    @Test func `a program that has probed for io_uring and its like is not refused for that`() { feature("probes") }
    @Test func `pidfds lead to the same processes, ended ones too`() { feature("events-pidfd") }
    @Test(arguments: ["keep", "ns"]) func `event descriptors come back however pids are kept`(pids: String) {
        for program in ["events-epoll", "events-pidfd", "events-inotify"] { feature(program, treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids]) }
    }
}

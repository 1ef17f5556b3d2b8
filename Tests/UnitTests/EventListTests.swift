// Events of inotify queues, before they are made once more.
import CkptABI
@testable import CkptInitiator
@testable import CkptSystem
@testable import FreestandingHosted
import Testing

@Suite struct EventListTests {
    struct Event {
        var watch: Int32, mask: UInt32, cookie: UInt32 = 0, name = ""
        var bytes: [UInt8] {
            let name = Array(self.name.utf8) + (self.name.isEmpty ? [] : Array(repeating: 0, count: 16 - self.name.utf8.count % 16))
            return [UInt32(bitPattern: watch), mask, cookie, UInt32(name.count)].flatMap { v in withUnsafeBytes(of: v) { Array($0) } } + name
        }
    }
    private let from = Event(watch: 1, mask: EventMask.movedFrom, cookie: 7, name: "a"), to = Event(watch: 2, mask: EventMask.movedTo, cookie: 7, name: "a name of two lengths")
    private let other = Event(watch: 3, mask: EventMask.open), overflow = Event(watch: -1, mask: EventMask.overflow), gone = Event(watch: 3, mask: EventMask.ignored)

    private func with<R>(_ bytes: [UInt8], _ body: (EventList) -> R) -> R {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count + 16, alignment: 8)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        return body(EventList(memory.baseAddress!, used: bytes.count, room: memory.count))
    }
    private func with<R>(_ events: [Event], _ body: (EventList) -> R) -> R { with(events.flatMap(\.bytes), body) }
    private func same(_ a: [Event], _ b: [Event]) -> Bool { with(a) { a in with(b) { a.tellsTheSame(as: $0) } } }
    private func cookie(_ e: Event, _ cookie: UInt32) -> Event { var e = e; e.cookie = cookie; return e }

    @Test func `cookies are other numbers, but both halves of a move have the same`() {
        #expect(same([from, to, other], [cookie(from, 9), cookie(to, 9), other]))
        #expect(!same([from, to, other], [cookie(from, 9), cookie(to, 8), other]))
        #expect(!same([from, cookie(to, 8)], [from, to]))
        #expect(!same([from], [cookie(from, 0)]))
    }
    @Test func `order, names, kinds, watches and number count`() {
        #expect(!same([other, from], [from, other]))
        #expect(!same([other], [other, other]))
        #expect(!same([from], [Event(watch: 1, mask: EventMask.movedFrom, cookie: 7, name: "b")]))
        #expect(!same([other], [Event(watch: 4, mask: EventMask.open)]))
        #expect(!same([other], [gone]))
    }
    @Test func `what the kernel would leave away is known`() {
        #expect(with([other, from, other]) { !$0.hasRepetition })
        #expect(with([from, other, other]) { $0.hasRepetition })
        #expect(with([gone, gone]) { !$0.hasRepetition })
        #expect(with([from, cookie(from, 8)]) { $0.hasRepetition })
    }
    @Test func `half an event is none, and there is one overflow`() {
        #expect(with([other, overflow, from]) { $0.isSound })
        #expect(with([overflow, other, overflow]) { !$0.isSound })
        #expect(with(from.bytes.dropLast()) { !$0.isSound })
        #expect(with(Array(from.bytes.prefix(8))) { !$0.isSound })
        #expect(with([Event(watch: 0, mask: EventMask.open)]) { !$0.isSound })
    }
    @Test func `something between the halves of a move is seen`() {
        func apart(_ events: [Event]) -> Bool { QueuedEvents(bytes: events.flatMap(\.bytes), count: events.count, nextWatch: 1).hasHalvesApart }
        #expect(!apart([other, from, to, other, cookie(from, 8)]))
        #expect(apart([from, other, to]))
        #expect(apart([from, cookie(from, 8), to]))
    }
    @Test func `the kernel's structures are as it says`() throws {
        let types = try #require(KernelTypes(of: ["list_head", "fsnotify_group"]))
        #expect(types.offset("list_head", "prev") == 8)
        #expect(types.offset("list_head", "none") == nil)
        #expect(types.offset("fsnotify_group", "inotify_data", "idr", "idr_next") != nil)     // in a union without a name
    }
}

extension EventListTests {
    private func with<R>(_ bytes: ArraySlice<UInt8>, _ body: (EventList) -> R) -> R { with(Array(bytes), body) }
}

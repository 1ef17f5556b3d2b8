// Events of inotify queues, before they are made once more.
import CkptABI
@testable import FreestandingHosted
import Testing

@Suite struct EventListTests {
    struct Event: Equatable {
        var watch: Int32, mask: UInt32, cookie: UInt32 = 0, name = ""
        var bytes: [UInt8] {
            let name = Array(self.name.utf8) + (self.name.isEmpty ? [] : Array(repeating: 0, count: 16 - self.name.utf8.count % 16))
            return [UInt32(bitPattern: watch), mask, cookie, UInt32(name.count)].flatMap { v in withUnsafeBytes(of: v) { Array($0) } } + name
        }
    }

    private func list(_ events: [Event], _ body: (inout EventList) -> Void) -> [Event] {
        let bytes = events.flatMap(\.bytes), memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count + 16, alignment: 8)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        var list = EventList(memory.baseAddress!, used: bytes.count, room: memory.count)
        body(&list)
        #expect(list.isSound)
        var left: [Event] = [], at = 0
        while at < list.used {
            let e = list[at]
            left.append(Event(watch: e.watch, mask: e.mask, cookie: e.cookie, name: e.length > 0 ? String(cString: e.name) : ""))
            at = list.next(at)
        }
        return left
    }
    private func tidied(_ events: [Event]) -> [Event] { list(events) { $0.tidy(from: 0) } }

    private let from = Event(watch: 1, mask: EventMask.movedFrom, cookie: 7, name: "a"), to = Event(watch: 2, mask: EventMask.movedTo, cookie: 7, name: "a name of two lengths")
    private let other = Event(watch: 3, mask: EventMask.open), overflow = Event(watch: -1, mask: EventMask.overflow)

    @Test func `the halves of a move stand together`() {
        #expect(tidied([other, from, other, to, other]) == [other, from, to, other])
        #expect(tidied([to, from]) == [to, from])
        #expect(tidied([Event(watch: 1, mask: EventMask.deleteSelf), other, Event(watch: 1, mask: EventMask.ignored)]) == [Event(watch: 1, mask: EventMask.deleteSelf), Event(watch: 1, mask: EventMask.ignored), other])
    }
    @Test func `what the kernel would leave away is left away`() {
        let gone = Event(watch: 3, mask: EventMask.ignored)
        #expect(tidied([other, other, from, other]) == [other, from, other])
        #expect(tidied([gone, gone]) == [gone, gone])
        #expect(tidied([overflow, other, overflow, from]) == [overflow, other, from])
    }
    @Test func `what two queues have been told is there once`() {
        let first = other.bytes.count, second = first + from.bytes.count
        var same = false
        #expect(list([other, from, from, to]) { same = $0.dropSecond(from: first, again: second) } == [other, from, to])
        #expect(same)
        #expect(list([other, from, to, from]) { same = $0.dropSecond(from: first, again: second) } == [other, from, to, from])
        #expect(!same)
    }
    @Test func `more than fit end in an overflow`() {
        #expect(list([other, from, to]) { $0.cut(to: 2) } == [other, from, overflow])
        #expect(list([other, overflow, to]) { $0.cut(to: 2) } == [other, overflow, to])
        #expect(list([other, from, to]) { $0.strike(16); _ = $0.removeStruck(); $0.addOverflow() } == [other, to, overflow])
    }
    @Test func `half an event is none`() {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 8)
        defer { memory.deallocate() }
        memory.copyBytes(from: from.bytes)
        #expect(EventList(memory.baseAddress!, used: from.bytes.count, room: 64).isSound)
        #expect(!EventList(memory.baseAddress!, used: from.bytes.count - 1, room: 64).isSound)
        #expect(!EventList(memory.baseAddress!, used: 8, room: 64).isSound)
    }
}

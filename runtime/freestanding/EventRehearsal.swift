// Runs in the initiator: no allocation but what it is given, no libc.
// Whether events can be made again: it is done once, in a queue of ours.
import CkptABI

public enum EventRehearsal {
    /// `events` and `again`: `room` bytes each, of which the first `used` are events; `buffer` is also the stack of a child.
    public static func outcome(_ events: UnsafeMutableRawPointer, used: Int, _ again: UnsafeMutableRawPointer, room: Int, buffer: UnsafeMutableRawPointer, size: Int) -> ReplayOutcome {
        let flags = 0o2004000, queue = call(CKPT_SYS_inotify_init1, flags), list = EventList(events, used: used, room: room)
        guard queue >= 0 else { return .limited(.queues) }
        defer { _ = call(CKPT_SYS_close, queue) }
        guard list.isSound else { return .different }
        let stage = EventStage(queue: queue, buffer: buffer, size: size)
        if stage.root < 0 { return .noPlace(stage.root) }
        defer { stage.close() }
        guard var replay = EventReplay(queue: queue, stage, list, buffer: buffer, size: size) else { return .limited(.files) }
        defer { replay.close() }
        return replay.rehearse(EventList(again, room: room))
    }
}

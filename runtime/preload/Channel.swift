// Runs in the snapshot, or in a leader that writes its memory in place; every signal blocked, on the writer's stack.
// The initiator's abstract socket hands out the statefile, and the page map of whoever connects (which may live in a chroot, or not be allowed to open it).  The connection stays open until the writer has finished:
// its end tells the initiator that a writer died.
import CkptABI
import PreloadBoot
import Freestanding

struct Channel {
    var socket: Descriptor
    var statefile: Descriptor   // or a socket that takes each run with its pages: the initiator compresses them, or sends them on
    var isStream: Bool
    var pagemap: Descriptor     // /proc/PID/pagemap of the writer

    func close() {
        while ckpt_base_count().pointee > 0 {
            ckpt_base_count().pointee -= 1
            _ = ckpt_close(ckpt_base_file(ckpt_base_count().pointee).pointee)
        }
        _ = ckpt_close(statefile.value); _ = ckpt_close(pagemap.value); _ = ckpt_close(socket.value)
    }
}

func openChannel(_ session: UnsafeMutablePointer<ckpt_session>) throws(Errno) -> Channel {
    let unix = 1, seqpacket = 5, closeOnExec = 0o2000000
    let socket = Descriptor(Int32(try check(ckpt_syscall(Int(CKPT_SYS_socket), unix, seqpacket | closeOnExec, 0, 0, 0, 0))))
    let channel: Channel, baseCount: UInt32
    do throws(Errno) {
        var address = ckpt_sockaddr_un()
        address.family = 1
        let name = ckpt_session_socket(session)
        let length = withUnsafeMutableBytes(of: &address.path) { path in
            var n = 1       // abstract: the first byte is zero
            while n < 64, name[n - 1] != 0 { path[n] = UInt8(bitPattern: name[n - 1]); n += 1 }
            return n
        }
        _ = try withUnsafeMutablePointer(to: &address) { (a) throws(Errno) in
            try check(ckpt_syscall(Int(CKPT_SYS_connect), Int(socket.value), Int(bitPattern: a), 2 + length, 0, 0, 0))
        }
        let (word, statefile, pagemap) = try receiveTwo(socket)
        channel = Channel(socket: socket, statefile: statefile, isStream: word & 255 == UInt64(CKPT_CHANNEL_STREAM.rawValue), pagemap: pagemap)
        baseCount = min(UInt32(truncatingIfNeeded: word >> 8), UInt32(CKPT_MAX_BASES))
    } catch {
        _ = ckpt_close(socket.value)
        throw error
    }
    do throws(Errno) { try receiveBases(socket, count: baseCount) } catch { channel.close(); throw error }
    return channel
}

/// The statefiles that a delta refers to: a message each.
private func receiveBases(_ socket: Descriptor, count: UInt32) throws(Errno) {
    ckpt_base_count().pointee = 0
    while ckpt_base_count().pointee < count {
        let (_, file, copy) = try receiveTwo(socket)
        _ = ckpt_close(copy.value)
        ckpt_base_file(ckpt_base_count().pointee).pointee = file.value
        ckpt_base_count().pointee += 1
    }
}

/// One message with a word and two descriptors (unix(7), SCM_RIGHTS).
private func receiveTwo(_ socket: Descriptor) throws(Errno) -> (UInt64, Descriptor, Descriptor) {
    let closeOnExec = 0x40000000, wrongMessage: Int32 = 71      // EPROTO
    var byte: UInt64 = 0
    var control = ckpt_cmsg_fd()
    var vector = ckpt_iovec()
    var message = ckpt_msghdr()
    let got = withUnsafeMutablePointer(to: &byte) { byte in
        withUnsafeMutablePointer(to: &control) { control in
            withUnsafeMutablePointer(to: &vector) { vector in
                vector.pointee = ckpt_iovec(base: UInt64(UInt(bitPattern: byte)), length: 8)
                message.iov = UInt64(UInt(bitPattern: vector)); message.iovlen = 1
                message.control = UInt64(UInt(bitPattern: control)); message.controllen = UInt64(MemoryLayout<ckpt_cmsg_fd>.size)
                return withUnsafeMutablePointer(to: &message) {
                    ckpt_syscall(Int(CKPT_SYS_recvmsg), Int(socket.value), Int(bitPattern: $0), closeOnExec, 0, 0, 0)
                }
            }
        }
    }
    try check(got)
    // cmsg: length 16 + two ints.  `type` 1: SCM_RIGHTS.
    guard got > 0, control.length == 24, control.type == 1 else {
        if control.length == 20 && control.type == 1 { _ = ckpt_close(control.fd) }      // there was room for one only
        throw Errno(wrongMessage)
    }
    return (byte, Descriptor(control.fd), Descriptor(control.pad))
}

/// A run and its pages.  Without SIGPIPE: the signal would stay pending in the application.
func sendPages(to stream: Descriptor, _ run: ckpt_run, process: UInt32, shared: Bool, from: UInt64, count: Int) throws(Errno) {
    var message = ckpt_page_message(run: run, process: process, shared: shared ? 1 : 0)
    let head = MemoryLayout<ckpt_page_message>.size, noSignal = 0x4000
    var done = 0
    while done < head + count {
        let got = withUnsafeMutablePointer(to: &message) { message in
            var parts = InlineArray<2, ckpt_iovec>(repeating: ckpt_iovec(base: from + UInt64(max(0, done - head)), length: UInt64(min(count, head + count - done))))
            if done < head { parts[0] = ckpt_iovec(base: UInt64(UInt(bitPattern: message)) + UInt64(done), length: UInt64(head - done)) }
            return parts.span.withUnsafeBufferPointer { parts in
                var header = ckpt_msghdr()
                header.iov = UInt64(UInt(bitPattern: parts.baseAddress)); header.iovlen = done < head ? 2 : 1
                return withUnsafeMutablePointer(to: &header) { ckpt_syscall(Int(CKPT_SYS_sendmsg), Int(stream.value), Int(bitPattern: $0), noSignal, 0, 0, 0) }
            }
        }
        if got == -4 { continue }
        done += try check(got)
    }
}

// What is reached in a session segment lies in it, whatever stands there.
import CkptABI
import Foundation
import Glibc
import Testing
@testable import CkptSession
@testable import CkptSystem

@Suite struct SegmentTests {
    private func segment() throws -> Segment {
        let folder = "/tmp/ckpt-segment-\(getpid())-\(UInt32.random(in: 0 ... .max))", name = "0123456789abcdef"
        mkdir(folder, 0o700)
        defer { unlink(folder + "/" + name); rmdir(folder) }
        let file = open(folder + "/" + name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(file) }
        var magic = ckpt_session_magic(), version = UInt32(CKPT_ABI_VERSION)
        ftruncate(file, Int(ckpt_session_size()))
        pwrite(file, &magic, 8, 0); pwrite(file, &version, 4, 8)
        let place = try SessionFolder(folder), s = try Segment(name, in: place, try place.open())
        try s.allocate(at: 0, count: 4096)      // its file is open from now on
        return s
    }

    @Test func `a place in the arena is looked at before it is believed`() throws {
        let s = try segment(), size = ckpt_arena_size(), stride = UInt64(MemoryLayout<ckpt_range>.stride)
        #expect(try s.arena(ckpt_range.self, at: 0).count == 1)
        #expect(try s.arena(ckpt_range.self, at: size - stride).offset == size - stride)
        let wrong: [(offset: UInt64, count: UInt64)] = [(size - stride + 8, 1), (size, 1), (.max, 1), (.max - stride + 1, 1), (4, 1), (0, size / stride + 1), (0, .max), (8, .max / stride), (1 << 63, 2)]
        for w in wrong { #expect(throws: SystemError.self) { try s.arena(ckpt_range.self, at: w.offset, count: w.count) } }
    }

    @Test func `what is claimed is kept, and nothing beyond the end is given out`() throws {
        let s = try segment(), range = ckpt_range(start: 1, end: 2, file_offset: 3, kind: 4, object: 5, object_offset: 6, copy: 7)
        let first = try #require(try s.claim([range, range]))
        for used: UInt64 in [.max, .max - 7, .max - 95, ckpt_arena_size() - 8, ckpt_arena_size()] {
            ckpt_store64(&s.pointer.pointee.arena_used, used)
            let next = try s.claim([range, range])
            #expect(next.map { $0.offset <= ckpt_arena_size() - 96 } ?? true)
        }
        ckpt_store64(&s.pointer.pointee.arena_used, 0)
        #expect(try s.claim(zeroed: UInt8.self, .max) == nil)
        #expect(try s.claim(zeroed: ckpt_range.self, .max / 2) == nil)
        #expect(first.count == 2 && first.copy()[1].copy == 7)
    }

    @Test func `bytes of a room are those within it`() throws {
        let s = try segment(), room = try #require(try s.claim(zeroed: UInt8.self, 100))
        #expect(try room.bytes(92, 8).count == 8)
        #expect(try room.bytes(100, 0).isEmpty)
        for (at, size) in [(93, 8), (101, 0), (.max, 1), (1, .max), (0, 101)] as [(UInt64, UInt64)] { #expect(throws: SystemError.self) { try room.bytes(at, size) } }
        #expect(throws: SystemError.self) { try room.load(UInt64.self, at: 96) }
        #expect(throws: SystemError.self) { try room.pointer(to: ckpt_ring_notes.self) }
    }

    @Test func `what the file has lost is zeros`() throws {
        let s = try segment(), room = try #require(try s.claim(zeroed: UInt8.self, 8192))
        room.pointer(5000).pointee = 7
        #expect(truncate("/proc/self/fd/\(try #require(descriptor(of: s)))", 0) == 0)
        #expect(room[5000] == 0)
        room.pointer(5000).pointee = 8
        #expect(room[5000] == 8 && s.pointer.pointee.magic == 0)
    }
    private func descriptor(of s: Segment) -> Int? {
        (3 ..< 256).first { n in
            var status = stat()
            return fstat(Int32(n), &status) == 0 && status.st_ino == s.identity.inode && status.st_dev == s.identity.device
        }
    }

    @Test func `a lock is one word, and nothing beside it leads anywhere`() {
        let words = UnsafeMutablePointer<UInt32>.allocate(capacity: 16)
        defer { words.deallocate() }
        words.initialize(repeating: 0xdead_beef, count: 16)
        words[0] = 0
        let lock = RobustLock(at: words)
        #expect(lock.tryLock())
        #expect(words[0] == UInt32(bitPattern: ckpt_gettid()))
        #expect(!RobustLock(at: words).tryLock())
        lock.unlock()
        #expect(words[0] == 0 && (1 ..< 16).allSatisfy { words[$0] == 0xdead_beef })
        words[0] = 12 | UInt32(CKPT_LOCK_OWNER_DIED)
        #expect(lock.tryLock())
        lock.unlock()
    }

    @Test func `the kernel marks the lock of one who died`() throws {
        let word = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0).assumingMemoryBound(to: UInt32.self)
        defer { munmap(word, 4096) }
        var thread = pthread_t()
        pthread_create(&thread, nil, { p in
            let lock = RobustLock(at: p!.assumingMemoryBound(to: UInt32.self))
            _ = lock.tryLock()
            _ = Unmanaged.passRetained(lock)
            return nil
        }, word)
        pthread_join(thread, nil)
        #expect(eventually { word[0] & UInt32(CKPT_LOCK_OWNER_DIED) != 0 })
    }
    private func eventually(_ condition: () -> Bool) -> Bool { (0 ..< 200).contains { _ in if condition() { return true }; usleep(5000); return false } }
}

// Runs in the engine, in each process of the tree and in whoever fills its memory; no allocation, no libc.
// Chains of runs, and the one place where a run's bytes get from the file to an address.
import CkptABI
import EngineBoot
import Freestanding

/// Calls `body` for each chunk of a chain, read into `room` (64 KiB) and checked.
func forEachChunk(from first: UInt64, in room: UInt64, _ body: (Table<ckpt_run>) -> Void) {
    let chunk = UnsafeMutableRawPointer(bitPattern: UInt(room))!
    let file = state.pointee.file_size
    var at = first, chunks: UInt64 = 0
    while at != 0 {
        guard at < file, chunks <= file / 4096 else { refuseStatefile("chunk", at: at, "lies outside the file") }
        readStatefile(chunk, 32, at: at)
        let h = chunk.loadUnaligned(as: ckpt_chunk.self)
        guard h.magic == UInt32(CKPT_CHUNK_MAGIC), h.count <= UInt32(CKPT_CHUNK_RUNS) else { refuseStatefile("chunk", at: at, "not a chunk of runs") }
        readStatefile(chunk + 32, UInt64(h.count) * 32, at: at + 32)
        guard ckpt_crc32c_hw(0, chunk + 32, Int(h.count) * 32) == h.crc else { refuseStatefile("chunk", at: at, "wrong checksum") }
        let runs = Table<ckpt_run>(at: room + 32, count: UInt64(h.count))
        for k in 0..<runs.count {
            let run = runs[k].pointee
            guard isSound(run, fileSize: sizeOfFile(run)) else { refuseStatefile("run", at: at + 32 + UInt64(k) * 32, "lies outside the file, or has a size that none has") }
        }
        body(runs)
        at = h.next
        chunks += 1
    }
}

/// Calls `body` for each run of a chain; every chunk is checked.
func forEachRun(from first: UInt64, _ body: (ckpt_run) -> Void) {
    forEachChunk(from: first, in: state.pointee.chunk) { runs in for k in 0..<runs.count { body(runs[k].pointee) } }
}

/// What is read is checked while the cache still has it.
private let slice: UInt64 = 256 << 10

/// Reads a run's pages into place and verifies them there.  `frames`: where whoever reads takes frames apart (frameRoom bytes).
func readRun(_ run: ckpt_run, to address: UInt64, frames: UInt64) {
    let n = UInt64(run.pages) * 4096
    if ckpt_run_kind(run) != CKPT_COMPRESSION_NONE.rawValue {
        let p = UnsafeMutableRawPointer(bitPattern: UInt(address))!
        unpackRun(run, to: p, room: frames)
        guard ckpt_crc32c_hw(0, p, Int(n)) == run.crc else { refusePages(run) }
        return
    }
    var done: UInt64 = 0, crc: UInt32 = 0
    while done < n {
        let p = UnsafeMutableRawPointer(bitPattern: UInt(address + done))!, part = min(slice, n - done)
        readPages(of: run, from: done, to: p, part)
        crc = ckpt_crc32c_hw(crc, p, Int(part))
        done += part
    }
    guard crc == run.crc else { refusePages(run) }
}

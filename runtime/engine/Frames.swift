// Runs in the engine and in each process of the tree, on any of their threads; no allocation, no libc.
// A compressed run is one frame.  The decoders are Debian's (runtime/decompress); what they need of memory lies in the region.
import CkptABI
import CkptDecompress
import EngineBoot
import Freestanding
import CkptMemory

/// Where one thread takes frames apart: the frame as it is in the file, the decoder's workspace, then the last frame that only a part was wanted of, and which it is.
private let frameBytes = UInt64(CKPT_RUN_PAGES) * 4096
private var workspaceBytes: UInt64 { pageAlignUp(UInt64(ckpt_decompress_workspace())) }
var frameRoom: UInt64 { frameBytes + workspaceBytes + frameBytes + 4096 }

/// A run's pages at `to`.  The next run is mostly another part of the same frame.
func unpackRun(_ run: ckpt_run, to p: UnsafeMutableRawPointer, room: UInt64) {
    if run.frame == 0 { return unpackFrame(run, to: p, room: room) }
    let whole = UnsafeMutableRawPointer(bitPattern: UInt(room + frameBytes + workspaceBytes))!
    let held = (whole + Int(frameBytes)).assumingMemoryBound(to: UInt64.self), name = run.file_offset << 6 | UInt64(ckpt_run_base(run)) << 1 | 1
    if held.pointee != name {
        held.pointee = 0
        unpackFrame(run, to: whole, room: room)
        held.pointee = name
    }
    _ = memcpy(p, whole + Int(run.skipped) * 4096, Int(run.pages) * 4096)
}

/// A frame that must become exactly as many pages as the run says.
private func unpackFrame(_ run: ckpt_run, to p: UnsafeMutableRawPointer, room: UInt64) {
    let frame = UnsafeMutableRawPointer(bitPattern: UInt(room))!, workspace = frame + Int(frameBytes), size = ckpt_run_stored(run)
    readPages(of: run, to: frame, size)
    guard ckpt_decompress(ckpt_run_kind(run), workspace, p, Int(ckpt_run_frame(run)) * 4096, frame, Int(size)) != 0 else {
        refusePages(run, "compressed pages", "not a frame of that many pages")
    }
}

/// What a run may say of itself, whoever wrote it.
func isSound(_ run: ckpt_run, fileSize: UInt64) -> Bool {
    let stored = ckpt_run_stored(run), isFrame = ckpt_run_kind(run) != CKPT_COMPRESSION_NONE.rawValue, frame = UInt32(ckpt_run_frame(run))
    return run.pages > 0 && UInt32(run.pages) <= UInt32(CKPT_RUN_PAGES) && run.address & 4095 == 0 && ckpt_run_kind(run) <= CKPT_COMPRESSION_LZ4.rawValue
        && stored > 0 && (isFrame ? stored < UInt64(frame) * 4096 : run.frame == 0) && UInt32(run.skipped) + UInt32(run.pages) <= frame
        && run.file_offset <= fileSize && stored <= fileSize - run.file_offset
}

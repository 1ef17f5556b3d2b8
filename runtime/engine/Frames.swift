// Runs in the engine and in each process of the tree, on any of their threads; no allocation, no libc.
// A compressed run is one frame.  The decoders are Debian's (runtime/decompress); what they need of memory lies in the region.
import CkptABI
import CkptDecompress
import EngineBoot
import Freestanding

/// Where one thread takes frames apart: the frame as it is in the file, then the decoder's workspace.
private let frameBytes = UInt64(CKPT_RUN_PAGES) * 4096
var frameRoom: UInt64 { frameBytes + pageAlignUp(UInt64(ckpt_decompress_workspace())) }

/// A run's pages at `to`, from a frame that must become exactly them.
func unpackRun(_ run: ckpt_run, to p: UnsafeMutableRawPointer, room: UInt64) {
    let frame = UnsafeMutableRawPointer(bitPattern: UInt(room))!, workspace = frame + Int(frameBytes), size = ckpt_run_stored(run)
    readStatefile(frame, size, at: run.file_offset)
    guard ckpt_decompress(ckpt_run_kind(run), workspace, p, Int(run.pages) * 4096, frame, Int(size)) != 0 else {
        refuseStatefile("compressed pages", at: run.file_offset, "not a frame of that many pages")
    }
}

/// What a run may say of itself, whoever wrote it.
func isSound(_ run: ckpt_run, fileSize: UInt64) -> Bool {
    let pages = UInt64(run.pages) * 4096, stored = ckpt_run_stored(run)
    return run.pages > 0 && run.pages <= UInt32(CKPT_RUN_PAGES) && run.address & 4095 == 0 && ckpt_run_kind(run) <= CKPT_COMPRESSION_LZ4.rawValue
        && stored > 0 && (ckpt_run_kind(run) == CKPT_COMPRESSION_NONE.rawValue || (stored < pages && ckpt_run_base(run) == 0))
        && run.file_offset <= fileSize && stored <= fileSize - run.file_offset
}

// --pre-copy into a packed statefile: pages are compressed or sent as they are read, and what is read again lies behind.  A run table names only what counts.
// Of a delta, what is as in its base when it is read stays there.
import CkptABI
import CkptSystem
import Synchronization

/// Where one thread puts what it has read.
struct EarlyOutput {
    let file: File, packer: PagePacker?, differences: SentDifferences?
    init(_ draft: Draft, _ file: File, since base: KnownRuns?) {
        self.file = file
        packer = draft.isPacked ? PagePacker(draft) : nil
        differences = base.map { SentDifferences($0) }
    }
}

/// Of one mapping.  Threads take different pages of it at once.
final class EarlyPages: @unchecked Sendable {
    private let process: UInt32, start: UInt64
    private let runs = Mutex<[ckpt_run]>([])
    private let last: UnsafeMutableBufferPointer<UInt32>        // by page: 1 + which run has it as it was read last; 0: none
    private let sums: UnsafeMutableBufferPointer<UInt32>        // by page: what went into a pipe can't be read again

    /// `process`: by which the base's runs are known.
    init(_ process: UInt32, _ start: UInt64, count: Int) {
        self.process = process; self.start = start
        last = .allocate(capacity: count); sums = .allocate(capacity: count)
        last.initialize(repeating: 0); sums.initialize(repeating: 0)
    }
    deinit { last.deallocate(); sums.deallocate() }

    func take(_ bytes: UnsafeRawBufferPointer, _ address: UInt64, _ packer: PagePacker, _ differences: SentDifferences?) throws(SystemError) {
        var at = 0
        while at < bytes.count {
            var run = ckpt_run()
            run.address = address + UInt64(at)
            // None reaches over the border of a huge page.
            let border = UInt64(CKPT_RUN_PAGES) * 4096, size = Int(min(UInt64(bytes.count - at), border - run.address % border))
            let pages = UnsafeRawBufferPointer(rebasing: bytes[at..<at + size]), message = ckpt_page_message(run: run, process: process, shared: 0)
            for part in try packer.pack(message, pages, since: differences, nil) { note(part, pages, from: Int((part.address - run.address) / 4096)) }
            at += size
        }
    }

    private func note(_ run: ckpt_run, _ pages: UnsafeRawBufferPointer, from: Int) {
        let number = runs.withLock { $0.append(run); return UInt32($0.count) }, first = Int((run.address - start) / 4096)
        for i in 0..<Int(run.pages) {
            last[first + i] = number
            sums[first + i] = ckpt_crc32c_hw(0, pages.baseAddress! + (from + i) * 4096, 4096)
        }
    }

    /// Bytes that all of it takes, whether it counts or not.
    var stored: UInt64 { runs.withLock { $0.reduce(0) { $0 + $1.written.stored } } }

    /// What has these pages.
    func runs(of ranges: [PageRange]) -> [ckpt_run] {
        let all = runs.withLock { $0 }
        var found: [ckpt_run] = []
        for r in ranges {
            var i = Int((r.start - start) / 4096)
            let end = Int((r.end - start) / 4096)
            while i < end {
                let first = i, number = last[i]
                while i < end && last[i] == number { i += 1 }
                let whole = all[Int(number) - 1]
                var run = whole.part(first - Int((whole.address - start) / 4096), i - first)
                run.crc = sums[first..<i].reduce(0) { ckpt_crc32c_append_page($0, $1) }
                found.append(run)
            }
        }
        return found
    }
}

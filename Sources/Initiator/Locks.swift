// File locks and leases, as fdinfo shows them: POSIX locks are a process's, all others belong to an open file description.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension SystemContent {
    func addLocks(_ d: ObservedDescriptor, _ description: Int, process: Int, _ p: ObservedProcess) {
        for l in d.locks {
            if l.isBreaking { refusals.add(pid: p.pid, fd: d.number, "\(d.link): a lease that is being broken", "try again when it has been given back"); continue }
            // Duplicates of a descriptor show the same locks; so do processes that share it, which hold no POSIX lock together.
            let holder = lockHolders[description] ?? (process, d.number)
            if l.kind == CKPT_LOCK_POSIX {
                if holder.process == process && holder.number != d.number { continue }
            } else if holder != (process, d.number) { continue }
            lockHolders[description] = holder
            tables.locks.append(record(l, UInt32(process), d.number))
        }
    }

    /// Locks of descriptions that only a message in flight holds.
    func addLocksInFlight() {
        for (i, f) in files.all.enumerated() where f.holders.isEmpty {
            for l in f.sample.locks where l.kind != CKPT_LOCK_POSIX && !l.isBreaking { tables.locks.append(record(l, ckpt_no_index(), Int32(i))) }
        }
    }

    private func record(_ l: ObservedLock, _ process: UInt32, _ fd: Int32) -> ckpt_lock_record {
        ckpt_lock_record(process: process, kind: l.kind.rawValue, fd: fd, exclusive: l.isExclusive ? 1 : 0, start: l.start, length: l.length)
    }
}

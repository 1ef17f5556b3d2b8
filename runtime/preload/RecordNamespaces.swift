// Runs in the SIGCKPT handler, every signal blocked.
// What only a process inside can tell of its namespaces without changing to them.
import CkptABI
import PreloadBoot
import Freestanding

func recordNames(_ process: UnsafeMutablePointer<ckpt_process>) {
    // struct utsname: six texts of 65 bytes; the second is the host's name, the last the domain's.
    var names = InlineArray<49, UInt64>(repeating: 0)
    var span = names.mutableSpan
    span.withUnsafeMutableBytes { b in
        let text = b.baseAddress!.assumingMemoryBound(to: CChar.self)
        _ = ckpt_syscall(CKPT_SYS_uname, Int(bitPattern: text), 0, 0, 0, 0, 0)
        let host = ckpt_process_host(process), domain = ckpt_process_domain(process)
        var i = 0
        while i < 64 { host[i] = text[65 + i]; domain[i] = text[325 + i]; i += 1 }
    }
    recordIPC(process)
}

/// How many objects there are: SHM_INFO, SEM_INFO and MSG_INFO.
private func recordIPC(_ process: UnsafeMutablePointer<ckpt_process>) {
    let segments = 14, semaphores = 19, queues = 12
    var info = InlineArray<16, UInt64>(repeating: 0)
    var span = info.mutableSpan
    span.withUnsafeMutableBytes { b in
        let at = Int(bitPattern: b.baseAddress!), words = b.baseAddress!.assumingMemoryBound(to: UInt32.self)
        // struct shm_info: used_ids first; struct seminfo: semusz, the eighth; struct msginfo: msgpool, the first.
        if ckpt_syscall(CKPT_SYS_shmctl, 0, segments, at, 0, 0, 0) >= 0 { process.pointee.ipc_objects += words[0] }
        if ckpt_syscall(CKPT_SYS_semctl, 0, 0, semaphores, at, 0, 0) >= 0 { process.pointee.ipc_objects += words[7] }
        if ckpt_syscall(CKPT_SYS_msgctl, 0, queues, at, 0, 0, 0) >= 0 { process.pointee.ipc_objects += words[0] }
    }
}

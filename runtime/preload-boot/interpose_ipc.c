// Runs inside applications, on the caller's stack: no libc, no lock, no allocation.
// Which System V objects the session has asked for.  The kernel notes only the pids that used one last, and pids are used again.
#include "preload_boot.h"
#include "ckpt_ipc.h"

#define EXPORT __attribute__((visibility("default")))
extern int interpose_fail(int code);

static int note(enum ckpt_ipc_kind kind, long id) {
    struct ckpt_session *s = ckpt_runtime()->session;
    if (id < 0) return interpose_fail((int)-id);
    if (s) ckpt_note_ipc(s, kind, (int32_t)id);
    return (int)id;
}
EXPORT int shmget(int key, size_t size, int flags) { return note(CKPT_IPC_SEGMENT, ckpt_syscall(CKPT_SYS_shmget, key, (long)size, flags, 0, 0, 0)); }
EXPORT int semget(int key, int count, int flags) { return note(CKPT_IPC_SEMAPHORES, ckpt_syscall(CKPT_SYS_semget, key, count, flags, 0, 0, 0)); }
EXPORT int msgget(int key, int flags) { return note(CKPT_IPC_QUEUE, ckpt_syscall(CKPT_SYS_msgget, key, flags, 0, 0, 0, 0)); }

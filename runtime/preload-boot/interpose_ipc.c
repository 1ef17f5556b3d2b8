// Runs inside applications, on the caller's stack: no libc, no lock, no allocation.
// Which System V objects the session has asked for.  The kernel notes only the pids that used one last, and pids are used again.
#include "preload_boot.h"
#include "ckpt_ipc.h"

#define EXPORT __attribute__((visibility("default")))
extern int interpose_fail(int code);

static int is_gone(enum ckpt_ipc_kind kind, int32_t id) {
    enum { STATUS = 2, INVALID = -22, REMOVED = -43 };
    uint64_t status[64];
    long r = kind == CKPT_IPC_SEGMENT ? ckpt_syscall(CKPT_SYS_shmctl, id, STATUS, (long)status, 0, 0, 0)
           : kind == CKPT_IPC_SEMAPHORES ? ckpt_syscall(CKPT_SYS_semctl, id, 0, STATUS, (long)status, 0, 0) : ckpt_syscall(CKPT_SYS_msgctl, id, STATUS, (long)status, 0, 0, 0);
    return r == INVALID || r == REMOVED;
}

// Where all places are taken, that of an object which has been removed.
static void note(struct ckpt_session *s, enum ckpt_ipc_kind kind, int32_t id) {
    if (ckpt_note_ipc(s, kind, id)) return;
    for (int i = 0; i < CKPT_SESSION_IPC; i++) {
        int32_t *at = &s->ipc_ids[kind - 1][__atomic_fetch_add(&s->ipc_next, 1, __ATOMIC_RELAXED) % CKPT_SESSION_IPC], old = __atomic_load_n(at, __ATOMIC_RELAXED);
        if (is_gone(kind, old - 1) && __atomic_compare_exchange_n(at, &old, id + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    }
    __atomic_fetch_or(&s->ipc_unseen, 1u << kind, __ATOMIC_RELAXED);
}

// A checkpoint between the call and the note would leave the object behind, so no signal comes in between.
static int ask(enum ckpt_ipc_kind kind, long number, long key, long b, long c) {
    struct ckpt_session *s = ckpt_runtime()->session;
    uint64_t all = ~0ull, before = 0;
    if (s) ckpt_rt_sigprocmask(0, &all, &before);
    long id = ckpt_syscall(number, key, b, c, 0, 0, 0);
    if (s && id >= 0) note(s, kind, (int32_t)id);
    if (s) ckpt_rt_sigprocmask(2, &before, 0);
    return id < 0 ? interpose_fail((int)-id) : (int)id;
}
EXPORT int shmget(int key, size_t size, int flags) { return ask(CKPT_IPC_SEGMENT, CKPT_SYS_shmget, key, (long)size, flags); }
EXPORT int semget(int key, int count, int flags) { return ask(CKPT_IPC_SEMAPHORES, CKPT_SYS_semget, key, count, flags); }
EXPORT int msgget(int key, int flags) { return ask(CKPT_IPC_QUEUE, CKPT_SYS_msgget, key, flags, 0); }

// Runs inside applications, on the caller's stack: no libc but the function gone on to, no lock, no allocation.
// Who dispatches its system calls to itself (PR_SET_SYSCALL_USER_DISPATCH): the kernel would kill it for the handler's calls, and shows nobody who does.
#include "interpose.h"
#include "preload_boot.h"

extern uint64_t interpose_real(int entry);
extern int interpose_fail(int code);

// The place of a task that is gone is free.
static void note(struct ckpt_session *s, int32_t tid) {
    enum { NO_SUCH_TASK = -3 };
    if (ckpt_is_dispatching(s, tid)) return;
    for (int i = 0; i < CKPT_SESSION_DISPATCHING; i++) {
        int32_t *at = &s->dispatching[i], old = __atomic_load_n(at, __ATOMIC_RELAXED);
        if (old && ckpt_syscall(CKPT_SYS_kill, old, 0, 0, 0, 0, 0) != NO_SUCH_TASK) continue;
        if (__atomic_compare_exchange_n(at, &old, tid, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    }
    __atomic_store_n(&s->dispatching_more, 1, __ATOMIC_RELAXED);
}

// Noted before it holds, since afterwards none of our calls may be made; libc's own instruction is one that the program has thought of.
__attribute__((visibility("hidden"))) int interpose_dispatch(int option, unsigned long mode, unsigned long start, unsigned long length, void *selector) {
    int (*real)(int, unsigned long, unsigned long, unsigned long, void *) = (int (*)(int, unsigned long, unsigned long, unsigned long, void *))interpose_real(INTERPOSE_prctl);
    enum { ENOSYS_ = 38 };
    if (!real) return interpose_fail(ENOSYS_);
    struct ckpt_session *s = ckpt_runtime()->session;
    int32_t tid = s ? ckpt_gettid() : 0;
    _Bool was = s && ckpt_is_dispatching(s, tid);
    if (s && mode) note(s, tid);
    int r = real(option, mode, start, length, selector);
    if (s && (mode ? r != 0 && !was : r == 0)) ckpt_end_dispatching(s, tid);
    return r;
}

// Runs inside applications, on the caller's stack: no libc but the functions gone on to, no lock, no allocation.
// Calls of which nothing shows afterwards that they have been made: who dispatches its system calls to itself (PR_SET_SYSCALL_USER_DISPATCH), since the
// kernel would kill it for the handler's calls, and who has restricted itself by Landlock; or which it would take time to find: threads that have gone to
// other namespaces than their process's.
#include "interpose.h"
#include "preload_boot.h"

extern uint64_t interpose_real(int entry);
extern int interpose_fail(int code);
enum { ENOSYS_ = 38 };

static uint32_t own_pids(void) { return ckpt_namespace_number("/proc/self/ns/pid"); }
// The place of a task that is gone is free; of another pid namespace nobody here can say that.
static void note(struct ckpt_noted *n, uint64_t id) {
    enum { NO_SUCH_TASK = -3 };
    if (ckpt_is_noted(n, id)) return;
    for (int i = 0; i < CKPT_SESSION_NOTED && id >> 32; i++) {
        uint64_t *at = &n->ids[i], old = __atomic_load_n(at, __ATOMIC_RELAXED);
        if (old && (old >> 32 != id >> 32 || ckpt_syscall(CKPT_SYS_kill, (int32_t)old, 0, 0, 0, 0, 0) != NO_SUCH_TASK)) continue;
        if (__atomic_compare_exchange_n(at, &old, id, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    }
    __atomic_store_n(&n->more, 1, __ATOMIC_RELAXED);
}

// Noted before it holds, since afterwards none of our calls may be made; libc's own instruction is one that the program has thought of.
// long, since syscall(3) comes here too, and returns all of the register.
__attribute__((visibility("hidden"))) long interpose_dispatch(int option, unsigned long mode, unsigned long start, unsigned long length, void *selector) {
    int (*real)(int, unsigned long, unsigned long, unsigned long, void *) = (int (*)(int, unsigned long, unsigned long, unsigned long, void *))interpose_real(INTERPOSE_prctl);
    if (!real) return interpose_fail(ENOSYS_);
    struct ckpt_session *s = ckpt_runtime()->session;
    uint64_t tid = s ? ckpt_note_of(own_pids(), ckpt_gettid()) : 0;
    _Bool was = s && ckpt_is_noted(&s->dispatching, tid);
    if (s && mode) note(&s->dispatching, tid);
    int r = real(option, mode, start, length, selector);
    if (s && (mode ? r != 0 && !was : r == 0)) ckpt_forget_noted(&s->dispatching, tid);
    return r;
}

// A child has the note in its memory, as it has the restriction; what is executed finds it by its pid.
__attribute__((visibility("hidden"))) long interpose_confine(long ruleset, long flags) {
    long (*real)(long, ...) = (long (*)(long, ...))interpose_real(INTERPOSE_syscall);
    if (!real) return interpose_fail(ENOSYS_);
    struct ckpt_runtime *runtime = ckpt_runtime();
    uint32_t was = runtime->is_confined;
    runtime->is_confined = 1;
    long r = real(CKPT_SYS_landlock_restrict_self, ruleset, flags);
    if (r != 0) runtime->is_confined = was; else if (runtime->session) note(&runtime->session->confined, ckpt_note_of(own_pids(), ckpt_getpid()));
    return r;
}

__attribute__((visibility("hidden"))) long interpose_unshare(int flags) {
    enum { TABLES = 0x200 | 0x400 | 0x40000 };          // CLONE_FS, CLONE_FILES, CLONE_SYSVSEM
    if (flags & ~TABLES) ckpt_runtime()->has_moved = 1;
    long r = ckpt_syscall(CKPT_SYS_unshare, flags, 0, 0, 0, 0, 0);
    return r < 0 ? interpose_fail((int)-r) : r;
}
__attribute__((visibility("hidden"))) long interpose_setns(int fd, int kinds) {
    ckpt_runtime()->has_moved = 1;
    long r = ckpt_syscall(CKPT_SYS_setns, fd, kinds, 0, 0, 0, 0);
    return r < 0 ? interpose_fail((int)-r) : r;
}
#define ENTRY(name) __attribute__((visibility("default"))) __typeof__(interpose_##name) name __attribute__((alias("interpose_" #name)));
ENTRY(unshare) ENTRY(setns)

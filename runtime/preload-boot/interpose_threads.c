// Runs inside applications, on the caller's stack: no libc but the functions gone on to, no lock, no allocation.
// Children and threads: the wait family, system, pthread_create, user contexts.  They are C for their unwind tables (a thread may be
// cancelled in them), and because a context switch has to be left by a jump.
#include "interpose.h"

#define EXPORT __attribute__((visibility("default")))
#define REAL(name, ...) ((__VA_ARGS__)interpose_real(INTERPOSE_##name))
enum { EINTR_ = 4, ENOSYS_ = 38, EAGAIN_ = 11, ECHILD_ = 10 };
enum { WNOWAIT_ = 0x01000000, WALL_ = 0x40000000 };
extern uint64_t interpose_real(int entry);
extern int interpose_fail(int code);
// Whether a child that was waited for is a snapshot of the session's, which nobody may see.
extern int interpose_is_snapshot(int pid, unsigned options);
extern int interpose_has_only_snapshot(unsigned options);
extern int interpose_believes(void);
extern void interpose_believe(int blocked);
extern void interpose_strip_context(void *context);

#define UNTIL_SHOWN(options, any, call) \
    if ((any) && interpose_has_only_snapshot(options)) return interpose_fail(ECHILD_); \
    for (;;) { int pid = (call); if (pid <= 0 || !interpose_is_snapshot(pid, options)) return pid; }

EXPORT int wait(int *status) {
    int (*real)(int *) = REAL(wait, int (*)(int *));
    if (!real) return interpose_fail(ENOSYS_);
    UNTIL_SHOWN(0, 1, real(status))
}
EXPORT int __wait(int *status) { return wait(status); }
EXPORT int waitpid(int which, int *status, int options) {
    int (*real)(int, int *, int) = REAL(waitpid, int (*)(int, int *, int));
    if (!real) return interpose_fail(ENOSYS_);
    UNTIL_SHOWN((unsigned)options, which <= 0, real(which, status, options))
}
EXPORT int __waitpid(int which, int *status, int options) { return waitpid(which, status, options); }
EXPORT int wait3(int *status, int options, void *usage) {
    int (*real)(int *, int, void *) = REAL(wait3, int (*)(int *, int, void *));
    if (!real) return interpose_fail(ENOSYS_);
    UNTIL_SHOWN((unsigned)options, 1, real(status, options, usage))
}
EXPORT int wait4(int which, int *status, int options, void *usage) {
    int (*real)(int, int *, int, void *) = REAL(wait4, int (*)(int, int *, int, void *));
    if (!real) return interpose_fail(ENOSYS_);
    UNTIL_SHOWN((unsigned)options, which <= 0, real(which, status, options, usage))
}
EXPORT int waitid(int type, unsigned id, struct ckpt_siginfo *info, int options) {
    int (*real)(int, unsigned, struct ckpt_siginfo *, int) = REAL(waitid, int (*)(int, unsigned, struct ckpt_siginfo *, int));
    if (!real) return interpose_fail(ENOSYS_);
    // 0 and 2: P_ALL and P_PGID.
    if ((type == 0 || type == 2) && interpose_has_only_snapshot((unsigned)options)) return interpose_fail(ECHILD_);
    struct ckpt_siginfo own;
    if (!info) info = &own;
    for (;;) {
        info->si_pid = 0;
        int r = real(type, id, info, options), pid = info->si_pid;
        if (r != 0 || pid <= 0 || !interpose_is_snapshot(pid, (unsigned)options)) return r;
        if (options & WNOWAIT_) ckpt_syscall(CKPT_SYS_wait4, pid, 0, WALL_, 0, 0, 0);     // it would be found again and again
    }
}

// MARK: system

struct system_call { int32_t pid, error; uint64_t mask; };      // InterposeSpawn.swift: SystemCall
struct cleanup { void (*routine)(void *); void *argument; uint64_t libcs[2]; };
extern void interpose_system_begin(void *call, const char *command);
extern void interpose_system_end(void *call);

static void system_cancelled(void *argument) {
    struct system_call *s = argument;
    ckpt_syscall(CKPT_SYS_kill, s->pid, 9, 0, 0, 0, 0);
    while (ckpt_syscall(CKPT_SYS_wait4, s->pid, 0, 0, 0, 0, 0) == -EINTR_) {}
    interpose_system_end(s);
}
// libc's own would start the shell with SIGCKPT unblocked, or wait for it with SIGCKPT blocked.
static int run_shell(const char *command) {
    struct system_call s;
    int status = 127 << 8;              // as if the shell had said that it could not be executed
    interpose_system_begin(&s, command);
    if (s.error == 0) {
        void (*push)(void *, void (*)(void *), void *) = REAL(_pthread_cleanup_push, void (*)(void *, void (*)(void *), void *));
        void (*pop)(void *, int) = REAL(_pthread_cleanup_pop, void (*)(void *, int));
        int (*real)(int, int *, int) = REAL(waitpid, int (*)(int, int *, int));
        struct cleanup cleanup;
        int cancellable = push && pop && real;
        if (cancellable) push(&cleanup, system_cancelled, &s);
        long r;
        do r = cancellable ? real(s.pid, &status, 0) : ckpt_syscall(CKPT_SYS_wait4, s.pid, (long)&status, 0, 0, 0, 0);
        while (r == -EINTR_ || (r == -1 && *REAL(__errno_location, int *(*)(void))() == EINTR_));
        if (r != s.pid) status = -1;
        if (cancellable) pop(&cleanup, 0);
    }
    interpose_system_end(&s);
    if (s.error) interpose_fail(s.error);
    return status;
}
EXPORT int system(const char *command) { return command ? run_shell(command) : run_shell("exit 0") == 0; }

// MARK: threads

// A thread inherits what its creator believes about SIGCKPT.  Only while some thread believes it blocked is the start wrapped.
struct start { void *(*routine)(void *); void *argument; int believes; uint32_t taken; };
static void *started(void *memory) {
    struct start *s = memory;
    void *(*routine)(void *) = s->routine;
    void *argument = s->argument;
    interpose_believe(s->believes);
    ckpt_store(&s->taken, 1);
    ckpt_futex_wake(&s->taken, 1);
    return routine(argument);
}
EXPORT int pthread_create(uint64_t *thread, const void *attribute, void *(*routine)(void *), void *argument) {
    int (*real)(uint64_t *, const void *, void *(*)(void *), void *) = REAL(pthread_create, int (*)(uint64_t *, const void *, void *(*)(void *), void *));
    if (!real) return EAGAIN_;
    if (ckpt_load(&interpose_state()->believers) == 0) return real(thread, attribute, routine, argument);
    struct start s = { routine, argument, interpose_believes(), 0 };
    int result = real(thread, attribute, started, &s);
    while (result == 0 && ckpt_load(&s.taken) == 0) ckpt_futex_wait(&s.taken, 0, 0);
    return result;
}

// MARK: user contexts

// Their masks go to the kernel unseen.  The caller's frame is part of what is saved, so ours must be gone.
typedef int (*set_context)(void *);
typedef int (*swap_context)(void *, void *);
EXPORT int setcontext(void *to) {
    set_context real = REAL(setcontext, set_context);
    if (!real) return interpose_fail(ENOSYS_);
    interpose_strip_context(to);
    __attribute__((musttail)) return real(to);
}
EXPORT int swapcontext(void *from, void *to) {
    swap_context real = REAL(swapcontext, swap_context);
    if (!real) return interpose_fail(ENOSYS_);
    interpose_strip_context(to);
    __attribute__((musttail)) return real(from, to);
}

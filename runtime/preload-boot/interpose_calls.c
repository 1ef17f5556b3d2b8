// Runs inside applications, on the caller's stack: no libc but pthread_setcanceltype, no lock, no allocation.
// The calls that Linux never restarts after a signal handler (signal(7)).  They are C because a cancelled thread is unwound through
// these frames, and the Swift compiler writes no .eh_frame for freestanding code; what to do is decided in InterposeRepeat.swift.
#include "interpose.h"
#include "preload_boot.h"

struct sigset;
struct timeval { int64_t sec, usec; };
enum { NR_poll = 7, NR_pause = 34, NR_msgsnd = 69, NR_msgrcv = 70, NR_sigtimedwait = 128, NR_sigsuspend = 130, NR_semtimedop = 220, NR_clock_nanosleep = 230,
       NR_epoll_wait = 232, NR_pselect6 = 270, NR_ppoll = 271, NR_epoll_pwait = 281, NR_epoll_pwait2 = 441 };
#define STRING_(x) #x
#define STRING(x) STRING_(x)
enum { EINTR_ = 4, EINVAL_ = 22, TIMER_ABSTIME = 1 };

extern uint64_t interpose_real(int entry);
extern int interpose_fail(int code);
extern int interpose_repeat(struct interpose_call *call);                       // prepares the next attempt; 0: the time is up
extern void interpose_limit(struct interpose_call *call, int clock, const struct ckpt_timespec *left);   // sets the deadline
extern void interpose_remain(struct interpose_call *call, struct ckpt_timespec *left);
extern uint64_t interpose_strip(const void *set);
#define REAL(name) interpose_real(INTERPOSE_##name)

// Everything is inlined into the exported functions, so that a backtrace of a waiting task shows one frame with the name that it called.
#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default"), section("interpose_calls")))

// The handler knows our own calls by their section and by the no-op behind the instruction; rbx keeps the call for it.
// *unhandled: no handler ran behind the call, neither ours nor the application's (ours enters it again, theirs return through a restorer that marks rcx).
INLINE long interpose_syscall(struct interpose_call *c, _Bool *unhandled) {
    long r;
    uint64_t rcx;
    register uint64_t r11 __asm__("r11");
    register int64_t r10 __asm__("r10") = c->arguments[3];
    register int64_t r8 __asm__("r8") = c->arguments[4];
    register int64_t r9 __asm__("r9") = c->arguments[5];
    __asm__ volatile("syscall\n0:\t.byte 0x0f, 0x1f, 0x80\n\t.long " STRING(INTERPOSE_SIGNATURE) "\n\tleaq 0b(%%rip), %%r11"
        : "=a"(r), "=c"(rcx), "=r"(r11) : "a"(c->number), "b"(c), "D"(c->arguments[0]), "S"(c->arguments[1]), "d"(c->arguments[2]), "r"(r10), "r"(r8), "r"(r9)
        : "memory", "cc");
    *unhandled = rcx == r11;
    return r;
}
extern const char __start_interpose_calls[] __attribute__((visibility("hidden"))), __stop_interpose_calls[] __attribute__((visibility("hidden")));
_Bool interpose_is_own_call(uint64_t rip) {
    if (rip < (uint64_t)__start_interpose_calls || rip + 7 > (uint64_t)__stop_interpose_calls) return 0;
    const uint8_t *p = (const uint8_t *)rip;
    return p[0] == 0x0f && p[1] == 0x1f && p[2] == 0x80 && *(const uint32_t *)(p + 3) == INTERPOSE_SIGNATURE;
}

INLINE _Bool had_checkpoint(void) {
    struct ckpt_session *s = ckpt_runtime()->session;
    return s && ckpt_load(ckpt_phase_word(s)) >> 8;
}
INLINE long perform(struct interpose_call *c) {
    for (;;) {
        _Bool unhandled;
        long r = interpose_syscall(c, &unhandled);
        // An ignored signal is dropped when it is sent, but not while our handler blocks it in the first thread: then it wakes some other,
        // whose sigtimedwait or semtimedop says EINTR though no handler ran.  (So does SIGCONT; that EINTR is not shown any more either.)
        if (r == -EINTR_ && unhandled && c->kind == INTERPOSE_PLAIN && had_checkpoint() && interpose_repeat(c)) continue;
        // A sleep continued by ppoll(2) goes in slices, because the kernel rounds its time-outs generously.
        int again = r == -INTERPOSE_REPEAT || (r == 0 && c->kind == INTERPOSE_SLEEP && c->number == NR_ppoll);
        if (again && interpose_repeat(c)) continue;
        if (c->blocked) ckpt_rt_sigprocmask(2, &c->mask, 0);
        return again ? 0 : r;
    }
}
// A cancellation point, as libc makes them: cancellation acts at once while the thread is in the kernel.
INLINE long wait_in_kernel(struct interpose_call *c) {
    int (*set_type)(int, int *) = (int (*)(int, int *))REAL(pthread_setcanceltype);
    if (!set_type) return perform(c);
    int type;
    set_type(1, &type);
    long r = perform(c);
    set_type(type, &type);
    return r;
}
INLINE long checked(long r) { return r < 0 && r > -4096 ? interpose_fail((int)-r) : r; }
#define CALL(kind_, number_, ...) struct interpose_call c = { .kind = kind_, .number = number_, .arguments = { __VA_ARGS__ } }

EXPORT int poll(void *fds, unsigned long count, int ms) {
    CALL(INTERPOSE_POLL, NR_poll, (long)fds, (long)count, ms);
    if (ms > 0) {
        struct ckpt_timespec left = { ms / 1000, ms % 1000 * 1000000l };
        interpose_limit(&c, 1, &left);
    } else c.limited = ms == 0;     // the deadline is long past
    return (int)checked(wait_in_kernel(&c));
}
EXPORT int ppoll(void *fds, unsigned long count, const struct ckpt_timespec *timeout, const struct sigset *mask) {
    CALL(INTERPOSE_POLL, NR_ppoll, (long)fds, (long)count, 0, 0, 8);
    if (timeout) { interpose_limit(&c, 1, timeout); c.arguments[2] = (long)&c.left; }
    if (mask) { c.set = interpose_strip(mask); c.arguments[3] = (long)&c.set; }
    return (int)checked(wait_in_kernel(&c));
}
INLINE long selected(int n, void *r, void *w, void *e, struct interpose_call *c, int timed, const struct sigset *mask) {
    *c = (struct interpose_call){ .kind = INTERPOSE_SELECT, .number = NR_pselect6, .arguments = { n, (long)r, (long)w, (long)e, timed ? (long)&c->left : 0, (long)c->pair },
        .clock = c->clock, .limited = c->limited, .deadline = c->deadline, .left = c->left, .pair = { 0, 8 } };
    if (mask) { c->set = interpose_strip(mask); c->pair[0] = (uint64_t)&c->set; }
    return wait_in_kernel(c);
}
EXPORT int select(int n, void *r, void *w, void *e, struct timeval *timeout) {
    struct interpose_call c = { .kind = INTERPOSE_SELECT };
    if (timeout) {
        if (timeout->sec < 0 || timeout->usec < 0) return interpose_fail(EINVAL_);
        int64_t sec = timeout->sec + timeout->usec / 1000000;
        struct ckpt_timespec left = { sec < timeout->sec ? INT64_MAX : sec, timeout->usec % 1000000 * 1000 };
        interpose_limit(&c, 1, &left);
    }
    long result = selected(n, r, w, e, &c, timeout != 0, 0);
    if (timeout) { timeout->sec = c.left.sec; timeout->usec = c.left.nsec / 1000; }     // Linux leaves the rest there
    return (int)checked(result);
}
EXPORT int pselect(int n, void *r, void *w, void *e, const struct ckpt_timespec *timeout, const struct sigset *mask) {
    struct interpose_call c = { .kind = INTERPOSE_SELECT };
    if (timeout) interpose_limit(&c, 1, timeout);
    return (int)checked(selected(n, r, w, e, &c, timeout != 0, mask));
}
INLINE int epoll(int fd, void *events, int size, int ms, const struct sigset *mask, long number) {
    CALL(INTERPOSE_EPOLL, number, fd, (long)events, size, ms, 0, 8);
    if (ms > 0) {
        struct ckpt_timespec left = { ms / 1000, ms % 1000 * 1000000l };
        interpose_limit(&c, 1, &left);
    }
    if (mask) { c.set = interpose_strip(mask); c.arguments[4] = (long)&c.set; }
    return (int)checked(wait_in_kernel(&c));
}
EXPORT int epoll_wait(int fd, void *events, int size, int ms) { return epoll(fd, events, size, ms, 0, NR_epoll_wait); }
EXPORT int epoll_pwait(int fd, void *events, int size, int ms, const struct sigset *mask) { return epoll(fd, events, size, ms, mask, NR_epoll_pwait); }
EXPORT int epoll_pwait2(int fd, void *events, int size, const struct ckpt_timespec *timeout, const struct sigset *mask) {
    CALL(INTERPOSE_EPOLL2, NR_epoll_pwait2, fd, (long)events, size, 0, 0, 8);
    if (timeout) { interpose_limit(&c, 1, timeout); c.arguments[3] = (long)&c.left; }
    if (mask) { c.set = interpose_strip(mask); c.arguments[4] = (long)&c.set; }
    return (int)checked(wait_in_kernel(&c));
}

// Returns an error number, as clock_nanosleep(3) does.
INLINE int sleep_on(int clock, int flags, const struct ckpt_timespec *request, struct ckpt_timespec *rest) {
    if (clock == 3) return EINVAL_;     // the calling thread's CPU time
    int absolute = flags & TIMER_ABSTIME, steady = clock == 1 || (clock == 0 && !absolute);
    CALL(steady ? INTERPOSE_SLEEP : absolute ? INTERPOSE_PLAIN : INTERPOSE_ABSOLUTE, NR_clock_nanosleep, clock, flags, (long)request, 0);
    if (!absolute) { interpose_limit(&c, steady ? 1 : clock, request); c.arguments[3] = (long)&c.left; }
    else if (steady) { c.clock = 1; c.limited = 1; c.deadline = *request; }
    int error = (int)-wait_in_kernel(&c);
    if (error == EINTR_ && rest && !absolute) interpose_remain(&c, rest);
    return error;
}
EXPORT int clock_nanosleep(int clock, int flags, const struct ckpt_timespec *request, struct ckpt_timespec *rest) {
    return sleep_on(clock, flags, request, rest);
}
EXPORT int nanosleep(const struct ckpt_timespec *request, struct ckpt_timespec *rest) {
    int error = sleep_on(0, 0, request, rest);
    return error ? interpose_fail(error) : 0;
}
EXPORT int usleep(unsigned us) {
    struct ckpt_timespec t = { us / 1000000, us % 1000000 * 1000 };
    int error = sleep_on(0, 0, &t, 0);
    return error ? interpose_fail(error) : 0;
}
EXPORT unsigned sleep(unsigned seconds) {
    struct ckpt_timespec t = { seconds, 0 };
    return sleep_on(0, 0, &t, &t) ? (unsigned)t.sec : 0;
}
EXPORT int thrd_sleep(const struct ckpt_timespec *request, struct ckpt_timespec *rest) {
    int error = sleep_on(0, 0, request, rest);
    return error == 0 ? 0 : error == EINTR_ ? -1 : -2;
}

INLINE int suspend(uint64_t mask) {
    CALL(INTERPOSE_SUSPEND, NR_sigsuspend, 0, 8);
    c.set = mask;
    c.arguments[0] = (long)&c.set;
    return (int)checked(wait_in_kernel(&c));
}
EXPORT int sigsuspend(const struct sigset *mask) { return suspend(interpose_strip(mask)); }
EXPORT int pause(void) {
    CALL(INTERPOSE_SUSPEND, NR_pause, 0);
    return (int)checked(wait_in_kernel(&c));
}
INLINE int pause_for(int signal) {
    uint64_t mask = 0;
    if (signal < 1 || signal > 64) return interpose_fail(EINVAL_);
    ckpt_rt_sigprocmask(0, 0, &mask);
    return suspend(mask & ~(1ull << (signal - 1)));
}
EXPORT int __xpg_sigpause(int signal) { return pause_for(signal); }
INLINE int pause_old(int mask_or_signal, int is_signal) { return is_signal ? pause_for(mask_or_signal) : suspend((unsigned)mask_or_signal); }
EXPORT int __sigpause(int mask_or_signal, int is_signal) { return pause_old(mask_or_signal, is_signal); }
// BSD's in glibc, System V's where there is no __sigpause.
EXPORT int sigpause(int mask_or_signal) { return pause_old(mask_or_signal, !REAL(__sigpause)); }

INLINE int take(const struct sigset *set, struct ckpt_siginfo *info, const struct ckpt_timespec *timeout) {
    struct ckpt_siginfo taken;
    CALL(INTERPOSE_PLAIN, NR_sigtimedwait, 0, (long)&taken, 0, 8);
    c.set = interpose_strip(set);
    c.arguments[0] = (long)&c.set;
    if (timeout) { interpose_limit(&c, 1, timeout); c.arguments[2] = (long)&c.left; }
    long r = wait_in_kernel(&c);
    if (r > 0 && info) {
        *info = taken;
        if (info->si_code == -6) info->si_code = 0;     // glibc shows tgkill(2) as kill(2)
    }
    return (int)checked(r);
}
EXPORT int sigtimedwait(const struct sigset *set, struct ckpt_siginfo *info, const struct ckpt_timespec *timeout) { return take(set, info, timeout); }
EXPORT int sigwaitinfo(const struct sigset *set, struct ckpt_siginfo *info) { return take(set, info, 0); }
EXPORT int sigwait(const struct sigset *set, int *signal) {
    struct ckpt_siginfo taken;
    for (;;) {
        CALL(INTERPOSE_PLAIN, NR_sigtimedwait, 0, (long)&taken, 0, 8);
        c.set = interpose_strip(set);
        c.arguments[0] = (long)&c.set;
        long r = wait_in_kernel(&c);
        if (r == -EINTR_) continue;
        if (r < 0) return (int)-r;
        *signal = (int)r;
        return 0;
    }
}

INLINE int operate(int id, void *operations, size_t count, const struct ckpt_timespec *timeout) {
    CALL(INTERPOSE_PLAIN, NR_semtimedop, id, (long)operations, (long)count, 0);
    if (timeout) { interpose_limit(&c, 1, timeout); c.arguments[3] = (long)&c.left; }
    return (int)checked(perform(&c));       // no cancellation point
}
EXPORT int semtimedop(int id, void *operations, size_t count, const struct ckpt_timespec *timeout) { return operate(id, operations, count, timeout); }
EXPORT int semop(int id, void *operations, size_t count) { return operate(id, operations, count, 0); }
EXPORT int msgsnd(int id, const void *message, size_t size, int flags) {
    CALL(INTERPOSE_PLAIN, NR_msgsnd, id, (long)message, (long)size, flags);
    return (int)checked(wait_in_kernel(&c));
}
EXPORT long msgrcv(int id, void *message, size_t size, long type, int flags) {
    CALL(INTERPOSE_PLAIN, NR_msgrcv, id, (long)message, (long)size, type, flags);
    return checked(wait_in_kernel(&c));
}

// libc's other names for them, and the checked ones of _FORTIFY_SOURCE: libc reports the overflow.
EXPORT int __poll(void *fds, unsigned long count, int ms) { return poll(fds, count, ms); }
EXPORT int __select(int n, void *r, void *w, void *e, struct timeval *t) { return select(n, r, w, e, t); }
EXPORT int __nanosleep(const struct ckpt_timespec *request, struct ckpt_timespec *rest) { return nanosleep(request, rest); }
EXPORT int __sigsuspend(const struct sigset *mask) { return sigsuspend(mask); }
EXPORT int __poll_chk(void *fds, unsigned long count, int ms, size_t size) {
    int (*real)(void *, unsigned long, int, size_t) = (int (*)(void *, unsigned long, int, size_t))REAL(__poll_chk);
    return size / 8 < count && real ? real(fds, count, ms, size) : poll(fds, count, ms);
}
EXPORT int __ppoll_chk(void *fds, unsigned long count, const struct ckpt_timespec *timeout, const struct sigset *mask, size_t size) {
    int (*real)(void *, unsigned long, const void *, const void *, size_t) = (int (*)(void *, unsigned long, const void *, const void *, size_t))REAL(__ppoll_chk);
    return size / 8 < count && real ? real(fds, count, timeout, mask, size) : ppoll(fds, count, timeout, mask);
}

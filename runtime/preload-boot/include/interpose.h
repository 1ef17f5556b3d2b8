// Runs inside applications, wherever they call libc: on any stack, in signal handlers, in vfork children, before constructors.
// State and layouts of the interposers.  Mutable state is C's: a Swift global of such a type would be initialised lazily, behind a lock.
#ifndef INTERPOSE_H
#define INTERPOSE_H
#include "ckpt_syscall.h"
#include "ckpt_kernel.h"
#include "ckpt_session.h"
#include "ckpt_rings.h"

// libc's own functions that wrappers go on to.  Looked up when first called, in the objects behind ours.
#define INTERPOSE_ENTRIES(X) \
    X(__errno_location) X(clock_gettime) X(pthread_setcanceltype) X(pthread_create) X(_pthread_cleanup_push) X(_pthread_cleanup_pop) \
    X(sigaction) X(signal) X(sysv_signal) X(sigset) X(sighold) X(sigrelse) X(sigignore) X(siginterrupt) \
    X(sigprocmask) X(pthread_sigmask) X(sigblock) X(sigsetmask) X(sigpending) X(sigwait) X(signalfd) X(pthread_attr_setsigmask_np) \
    X(setcontext) X(swapcontext) \
    X(execve) X(execvpe) X(fexecve) X(execveat) X(posix_spawn) X(posix_spawnp) X(pidfd_spawn) X(pidfd_spawnp) X(popen) \
    X(posix_spawnattr_init) X(posix_spawnattr_destroy) X(posix_spawnattr_getflags) X(posix_spawnattr_setflags) \
    X(posix_spawnattr_getsigmask) X(posix_spawnattr_setsigmask) X(posix_spawnattr_setsigdefault) \
    X(syscall) X(prctl) X(__sigpause) X(wait) X(waitpid) X(wait3) X(wait4) X(waitid) X(__poll_chk) X(__ppoll_chk) \
    X(io_uring_queue_init_params) X(io_uring_queue_init_mem) X(io_uring_setup) X(io_uring_register) \
    X(io_uring_register_eventfd) X(io_uring_register_eventfd_async) X(io_uring_unregister_eventfd) X(io_uring_register_personality) \
    X(io_uring_register_restrictions) X(io_uring_enable_rings) X(io_uring_register_iowq_aff) X(io_uring_register_iowq_max_workers) \
    X(io_uring_register_ring_fd) X(io_uring_unregister_ring_fd) X(io_uring_register_file_alloc_range) X(io_uring_register_clock) \
    X(io_uring_register_ifq) X(io_uring_resize_rings) X(io_uring_register_region) X(io_uring_register_buf_ring) X(io_uring_setup_buf_ring)
enum {
#define X(name) INTERPOSE_##name,
    INTERPOSE_ENTRIES(X)
#undef X
    INTERPOSE_ENTRY_COUNT
};

// <signal.h>: glibc and musl agree on x86_64.
struct interpose_sigset { uint64_t first; uint64_t rest[15]; };
_Static_assert(sizeof(struct interpose_sigset) == 128, "sigset_t");
struct interpose_sigaction { uint64_t handler; struct interpose_sigset mask; int32_t flags; int32_t pad; uint64_t restorer; };
_Static_assert(sizeof(struct interpose_sigaction) == 152, "struct sigaction");
// <spawn.h>: both keep 336 bytes; only libc looks inside.
struct interpose_spawnattr { uint64_t opaque[42]; };
_Static_assert(sizeof(struct interpose_spawnattr) == 336, "posix_spawnattr_t");

// What a thread believes about SIGCKPT in its own mask.  The key is the thread pointer: a forked child has its parent's,
// and a restart brings it back, whatever becomes of the tids.
struct interpose_belief {
    uint64_t thread;                // atomic; 0: free
    uint32_t blocked;               // atomic
    uint32_t pending;               // atomic: the application sent itself one while it was "blocked"
    struct ckpt_siginfo info;       // of the pending one
};
enum { INTERPOSE_BELIEFS = 512 };

struct interpose_state {
    uint32_t started;               // atomic: the constructor has run
    uint32_t believers;             // atomic: beliefs with `blocked` set
    uint64_t objects;               // atomic: address of our own struct link_map
    uint64_t first_object;          // of the program's
    uint64_t environment;           // address of libc's `environ`
    uint64_t entries[INTERPOSE_ENTRY_COUNT];    // atomic
    uint64_t masked_actions;        // atomic: bit signal − 1: the application's sa_mask for it holds SIGCKPT
    struct interpose_sigaction action;          // what the application installed for SIGCKPT
    uint32_t session_length, preload_length;    // without the NUL
    char session_entry[288];        // CKPT_SESSION=…
    char preload_entry[288];        // LD_PRELOAD=…
    // system(3): SIGINT and SIGQUIT are ignored while any thread is in it.
    uint32_t system_lock, system_depth;
    struct interpose_sigaction system_interrupt, system_quit;
    struct interpose_belief beliefs[INTERPOSE_BELIEFS];
};
// A call that Linux never restarts after a handler, on the stack of its wrapper.  A checkpoint repeats it with the time left.
enum {
    INTERPOSE_POLL = 1,             // ppoll(2), with the mask
    INTERPOSE_SELECT = 2,           // pselect6(2)
    INTERPOSE_EPOLL = 3,            // epoll_pwait(2): milliseconds
    INTERPOSE_EPOLL2 = 4,           // epoll_pwait2(2)
    INTERPOSE_SUSPEND = 5,          // rt_sigsuspend(2)
    INTERPOSE_SLEEP = 6,            // ppoll(2) without descriptors
    INTERPOSE_PLAIN = 7,            // as it was: there is no variant with a mask
    INTERPOSE_ABSOLUTE = 8,         // clock_nanosleep(2) until the deadline on its own clock
    INTERPOSE_REPEAT = 4094,        // what the call returns, negated, when a checkpoint interrupted it
};
struct interpose_call {
    int64_t number, arguments[6];   // what is passed to the kernel
    uint64_t mask;                  // the thread's mask, while `blocked`
    uint32_t blocked;               // all signals are blocked until the repeated call puts `mask` in place
    uint32_t kind;
    int32_t  clock;                 // of the deadline
    uint32_t limited;               // there is a deadline
    struct ckpt_timespec deadline, left;
    uint64_t set;                   // the application's own mask for the call, without SIGCKPT
    uint64_t pair[2];               // pselect6(2): address of the mask, its size
};
_Static_assert(sizeof(struct interpose_call) == 136, "interpose_call");

// Marks in rcx of a context whose system call begins once more (interpose.c, "Where handlers … return to").
#define INTERPOSE_INTERRUPTED 0x6b7063c1a57e4b01
#define INTERPOSE_SIGNATURE 0x6b70636b
#define INTERPOSE_RESTARTED 0x6b7063c1a57e4b02

#pragma GCC visibility push(hidden)
// Whether `rip` lies behind the instruction by which a wrapper enters the kernel; rbx is then the address of its interpose_call.
_Bool interpose_is_own_call(uint64_t rip);
extern struct interpose_state interpose_state_;
const char *_Nonnull interpose_entry_name(int entry);
struct ckpt_ring_notes *_Nonnull interpose_ring_notes(void);
uint64_t interpose_own_dynamic(void);           // address of our own dynamic section, which names us in the link map
// Calls interpose_start_image(request, memory) with `size` bytes that live until it returns.
long interpose_with_memory(size_t size, void *_Nonnull request);
uint64_t interpose_restorer_address(_Bool restarting);   // what the application's handlers return to
long interpose_call_resolver(uint64_t address); // of an IFUNC symbol
#pragma GCC visibility pop
CKPT_INLINE int64_t *_Nonnull interpose_argument(struct interpose_call *_Nonnull c, int i) { return &c->arguments[i]; }
CKPT_INLINE uint64_t *_Nonnull interpose_pair(struct interpose_call *_Nonnull c) { return &c->pair[0]; }
CKPT_INLINE struct interpose_state *_Nonnull interpose_state(void) { return &interpose_state_; }
CKPT_INLINE uint64_t *_Nonnull interpose_entry_slot(int entry) { return &interpose_state_.entries[entry]; }
CKPT_INLINE struct interpose_belief *_Nonnull interpose_belief(uint32_t i) { return &interpose_state_.beliefs[i]; }
CKPT_INLINE char *_Nonnull interpose_session_entry(void) { return interpose_state_.session_entry; }
CKPT_INLINE char *_Nonnull interpose_preload_entry(void) { return interpose_state_.preload_entry; }

// The thread pointer; the only use of %fs in the runtime.
CKPT_INLINE uint64_t interpose_thread(void) { uint64_t t; __asm__("movq %%fs:0, %0" : "=r"(t)); return t; }
CKPT_INLINE void interpose_or64(uint64_t *_Nonnull p, uint64_t v) { __atomic_fetch_or(p, v, __ATOMIC_ACQ_REL); }
CKPT_INLINE void interpose_and64(uint64_t *_Nonnull p, uint64_t v) { __atomic_fetch_and(p, v, __ATOMIC_ACQ_REL); }
CKPT_INLINE _Bool interpose_cas64(uint64_t *_Nonnull p, uint64_t expected, uint64_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
CKPT_INLINE uint32_t interpose_exchange(uint32_t *_Nonnull p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL); }
#endif

// Raw x86_64 Linux system calls: the freestanding side's only way into the kernel.
// Every wrapper returns what the kernel returns: a value, or -errno.  Nothing here touches libc, errno, TLS or the heap,
// so all of it may be called from a signal handler, in a vfork child and before relocation.
#ifndef CKPT_SYSCALL_H
#define CKPT_SYSCALL_H
#include <stdint.h>
#include <stddef.h>

#define CKPT_INLINE static inline __attribute__((always_inline))

CKPT_INLINE long ckpt_syscall(long n, long a, long b, long c, long d, long e, long f) {
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(r)
        : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
        : "rcx", "r11", "memory");
    return r;
}

enum {
    CKPT_SYS_read = 0, CKPT_SYS_write = 1, CKPT_SYS_open = 2, CKPT_SYS_close = 3, CKPT_SYS_fstat = 5, CKPT_SYS_poll = 7,
    CKPT_SYS_lseek = 8, CKPT_SYS_mmap = 9, CKPT_SYS_mprotect = 10, CKPT_SYS_munmap = 11, CKPT_SYS_brk = 12,
    CKPT_SYS_rt_sigaction = 13, CKPT_SYS_rt_sigprocmask = 14, CKPT_SYS_ioctl = 16, CKPT_SYS_pread64 = 17, CKPT_SYS_pwrite64 = 18,
    CKPT_SYS_readv = 19, CKPT_SYS_writev = 20, CKPT_SYS_select = 23, CKPT_SYS_sched_yield = 24, CKPT_SYS_mremap = 25, CKPT_SYS_msync = 26, CKPT_SYS_mincore = 27,
    CKPT_SYS_madvise = 28, CKPT_SYS_dup = 32, CKPT_SYS_dup2 = 33, CKPT_SYS_pause = 34, CKPT_SYS_nanosleep = 35, CKPT_SYS_getitimer = 36,
    CKPT_SYS_shmget = 29, CKPT_SYS_shmat = 30, CKPT_SYS_shmctl = 31, CKPT_SYS_semget = 64, CKPT_SYS_semop = 65, CKPT_SYS_semctl = 66,
    CKPT_SYS_shmdt = 67, CKPT_SYS_msgget = 68, CKPT_SYS_msgsnd = 69, CKPT_SYS_msgrcv = 70, CKPT_SYS_msgctl = 71, CKPT_SYS_alarm = 37, CKPT_SYS_setitimer = 38, CKPT_SYS_getpid = 39, CKPT_SYS_socket = 41, CKPT_SYS_connect = 42,
    CKPT_SYS_sendmsg = 46, CKPT_SYS_recvmsg = 47, CKPT_SYS_shutdown = 48, CKPT_SYS_bind = 49, CKPT_SYS_listen = 50, CKPT_SYS_getsockname = 51,
    CKPT_SYS_getpeername = 52, CKPT_SYS_socketpair = 53, CKPT_SYS_setsockopt = 54, CKPT_SYS_getsockopt = 55, CKPT_SYS_accept4 = 288, CKPT_SYS_clone = 56, CKPT_SYS_fork = 57,
    CKPT_SYS_execve = 59, CKPT_SYS_exit = 60, CKPT_SYS_wait4 = 61, CKPT_SYS_kill = 62, CKPT_SYS_uname = 63, CKPT_SYS_fcntl = 72,
    CKPT_SYS_ftruncate = 77, CKPT_SYS_getcwd = 79, CKPT_SYS_chdir = 80, CKPT_SYS_fchdir = 81, CKPT_SYS_mkdir = 83, CKPT_SYS_rmdir = 84, CKPT_SYS_unlink = 87,
    CKPT_SYS_readlink = 89, CKPT_SYS_fchmod = 91, CKPT_SYS_umask = 95, CKPT_SYS_getrlimit = 97, CKPT_SYS_ptrace = 101, CKPT_SYS_getuid = 102,
    CKPT_SYS_getgid = 104, CKPT_SYS_geteuid = 107, CKPT_SYS_getegid = 108, CKPT_SYS_setpgid = 109, CKPT_SYS_getppid = 110, CKPT_SYS_getpgrp = 111,
    CKPT_SYS_setsid = 112, CKPT_SYS_setgroups = 116, CKPT_SYS_setresuid = 117, CKPT_SYS_setresgid = 119, CKPT_SYS_getpgid = 121,
    CKPT_SYS_getsid = 124, CKPT_SYS_rt_sigpending = 127, CKPT_SYS_rt_sigtimedwait = 128, CKPT_SYS_rt_sigqueueinfo = 129,
    CKPT_SYS_rt_sigsuspend = 130, CKPT_SYS_sigaltstack = 131, CKPT_SYS_personality = 135, CKPT_SYS_getpriority = 140,
    CKPT_SYS_setpriority = 141, CKPT_SYS_sched_setscheduler = 144, CKPT_SYS_mlock = 149, CKPT_SYS_mlockall = 151, CKPT_SYS_modify_ldt = 154, CKPT_SYS_prctl = 157, CKPT_SYS_arch_prctl = 158,
    CKPT_SYS_setrlimit = 160, CKPT_SYS_chroot = 161, CKPT_SYS_mount = 165, CKPT_SYS_umount2 = 166, CKPT_SYS_gettid = 186, CKPT_SYS_futex = 202,
    CKPT_SYS_sched_setaffinity = 203, CKPT_SYS_sched_getaffinity = 204, CKPT_SYS_getdents64 = 217, CKPT_SYS_set_tid_address = 218,
    CKPT_SYS_semtimedop = 220, CKPT_SYS_timer_create = 222, CKPT_SYS_timer_settime = 223, CKPT_SYS_timer_gettime = 224,
    CKPT_SYS_timer_getoverrun = 225, CKPT_SYS_timer_delete = 226, CKPT_SYS_clock_gettime = 228, CKPT_SYS_clock_nanosleep = 230,
    CKPT_SYS_exit_group = 231, CKPT_SYS_epoll_wait = 232, CKPT_SYS_epoll_ctl = 233, CKPT_SYS_inotify_add_watch = 254, CKPT_SYS_inotify_rm_watch = 255, CKPT_SYS_timerfd_create = 283, CKPT_SYS_timerfd_settime = 286, CKPT_SYS_signalfd4 = 289, CKPT_SYS_eventfd2 = 290, CKPT_SYS_epoll_create1 = 291, CKPT_SYS_inotify_init1 = 294, CKPT_SYS_tgkill = 234, CKPT_SYS_waitid = 247, CKPT_SYS_keyctl = 250, CKPT_SYS_ioprio_set = 251,
    CKPT_SYS_ioprio_get = 252, CKPT_SYS_openat = 257, CKPT_SYS_mkdirat = 258, CKPT_SYS_mknodat = 259, CKPT_SYS_newfstatat = 262, CKPT_SYS_unlinkat = 263, CKPT_SYS_renameat = 264, CKPT_SYS_linkat = 265, CKPT_SYS_symlinkat = 266, CKPT_SYS_fchmodat = 268,
    CKPT_SYS_readlinkat = 267, CKPT_SYS_pselect6 = 270, CKPT_SYS_ppoll = 271, CKPT_SYS_unshare = 272, CKPT_SYS_set_robust_list = 273,
    CKPT_SYS_get_robust_list = 274, CKPT_SYS_tee = 276, CKPT_SYS_utimensat = 280, CKPT_SYS_epoll_pwait = 281, CKPT_SYS_fallocate = 285,
    CKPT_SYS_dup3 = 292, CKPT_SYS_pipe2 = 293, CKPT_SYS_preadv = 295, CKPT_SYS_pwritev = 296, CKPT_SYS_rt_tgsigqueueinfo = 297, CKPT_SYS_prlimit64 = 302,
    CKPT_SYS_setns = 308, CKPT_SYS_process_vm_readv = 310, CKPT_SYS_kcmp = 312, CKPT_SYS_sched_setattr = 314, CKPT_SYS_sched_getattr = 315, CKPT_SYS_getrandom = 318,
    CKPT_SYS_memfd_create = 319, CKPT_SYS_execveat = 322, CKPT_SYS_userfaultfd = 323, CKPT_SYS_membarrier = 324, CKPT_SYS_mlock2 = 325, CKPT_SYS_statx = 332,
    CKPT_SYS_rseq = 334, CKPT_SYS_mq_open = 240, CKPT_SYS_mq_unlink = 241, CKPT_SYS_mq_timedsend = 242, CKPT_SYS_mq_timedreceive = 243, CKPT_SYS_mq_notify = 244,
    CKPT_SYS_mq_getsetattr = 245, CKPT_SYS_mbind = 237, CKPT_SYS_set_mempolicy = 238, CKPT_SYS_get_mempolicy = 239, CKPT_SYS_pkey_mprotect = 329, CKPT_SYS_pkey_alloc = 330,
    CKPT_SYS_pkey_free = 331, CKPT_SYS_io_setup = 206, CKPT_SYS_mseal = 462, CKPT_SYS_pidfd_send_signal = 424, CKPT_SYS_fsopen = 430, CKPT_SYS_fsconfig = 431, CKPT_SYS_fsmount = 432, CKPT_SYS_fspick = 433, CKPT_SYS_open_tree = 428, CKPT_SYS_move_mount = 429, CKPT_SYS_openat2 = 437, CKPT_SYS_mount_setattr = 442, CKPT_SYS_pivot_root = 155, CKPT_SYS_pidfd_open = 434, CKPT_SYS_pidfd_getfd = 438, CKPT_SYS_clone3 = 435, CKPT_SYS_close_range = 436, CKPT_SYS_landlock_restrict_self = 446,
};

CKPT_INLINE long ckpt_read(int fd, void *_Nonnull p, size_t n) { return ckpt_syscall(CKPT_SYS_read, fd, (long)p, (long)n, 0, 0, 0); }
CKPT_INLINE long ckpt_write(int fd, const void *_Nonnull p, size_t n) { return ckpt_syscall(CKPT_SYS_write, fd, (long)p, (long)n, 0, 0, 0); }
CKPT_INLINE long ckpt_pread(int fd, void *_Nonnull p, size_t n, uint64_t off) { return ckpt_syscall(CKPT_SYS_pread64, fd, (long)p, (long)n, (long)off, 0, 0); }
CKPT_INLINE long ckpt_pwrite(int fd, const void *_Nonnull p, size_t n, uint64_t off) { return ckpt_syscall(CKPT_SYS_pwrite64, fd, (long)p, (long)n, (long)off, 0, 0); }
CKPT_INLINE long ckpt_open(const char *_Nonnull path, int flags, int mode) { return ckpt_syscall(CKPT_SYS_open, (long)path, flags, mode, 0, 0, 0); }
CKPT_INLINE long ckpt_openat(int dir, const char *_Nonnull path, int flags, int mode) { return ckpt_syscall(CKPT_SYS_openat, dir, (long)path, flags, mode, 0, 0); }
CKPT_INLINE long ckpt_close(int fd) { return ckpt_syscall(CKPT_SYS_close, fd, 0, 0, 0, 0, 0); }
CKPT_INLINE long ckpt_mmap(uint64_t a, uint64_t l, int prot, int fl, int fd, uint64_t off) { return ckpt_syscall(CKPT_SYS_mmap, (long)a, (long)l, prot, fl, fd, (long)off); }
CKPT_INLINE long ckpt_munmap(uint64_t a, uint64_t l) { return ckpt_syscall(CKPT_SYS_munmap, (long)a, (long)l, 0, 0, 0, 0); }
CKPT_INLINE long ckpt_mprotect(uint64_t a, uint64_t l, int prot) { return ckpt_syscall(CKPT_SYS_mprotect, (long)a, (long)l, prot, 0, 0, 0); }
CKPT_INLINE long ckpt_madvise(uint64_t a, uint64_t l, int advice) { return ckpt_syscall(CKPT_SYS_madvise, (long)a, (long)l, advice, 0, 0, 0); }
CKPT_INLINE long ckpt_rt_sigaction(int s, const void *_Nullable n, void *_Nullable o) { return ckpt_syscall(CKPT_SYS_rt_sigaction, s, (long)n, (long)o, 8, 0, 0); }
CKPT_INLINE long ckpt_rt_sigprocmask(int how, const uint64_t *_Nullable n, uint64_t *_Nullable o) { return ckpt_syscall(CKPT_SYS_rt_sigprocmask, how, (long)n, (long)o, 8, 0, 0); }
CKPT_INLINE int ckpt_getpid(void) { return (int)ckpt_syscall(CKPT_SYS_getpid, 0, 0, 0, 0, 0, 0); }
CKPT_INLINE int ckpt_gettid(void) { return (int)ckpt_syscall(CKPT_SYS_gettid, 0, 0, 0, 0, 0, 0); }
CKPT_INLINE long ckpt_prctl(int op, long a, long b, long c, long d) { return ckpt_syscall(CKPT_SYS_prctl, op, a, b, c, d, 0); }
CKPT_INLINE _Noreturn void ckpt_exit_group(int c) { for (;;) ckpt_syscall(CKPT_SYS_exit_group, c, 0, 0, 0, 0, 0); }
CKPT_INLINE _Noreturn void ckpt_exit_thread(int c) { for (;;) ckpt_syscall(CKPT_SYS_exit, c, 0, 0, 0, 0, 0); }

struct ckpt_timespec { int64_t sec, nsec; };

// Process-shared futex operations (never FUTEX_PRIVATE: the words live in the session segment).
CKPT_INLINE long ckpt_futex_wait(const uint32_t *_Nonnull w, uint32_t v, const struct ckpt_timespec *_Nullable timeout) {
    return ckpt_syscall(CKPT_SYS_futex, (long)w, 0, v, (long)timeout, 0, 0);
}
CKPT_INLINE long ckpt_futex_wake(const uint32_t *_Nonnull w, int n) { return ckpt_syscall(CKPT_SYS_futex, (long)w, 1, n, 0, 0, 0); }
// FUTEX_WAIT_BITSET, whose timeout is a moment of CLOCK_MONOTONIC, and FUTEX_WAKE_BITSET: who waits with none of the bits sleeps on.
CKPT_INLINE long ckpt_futex_wait_bits(const uint32_t *_Nonnull w, uint32_t v, const struct ckpt_timespec *_Nullable until, uint32_t bits) {
    return ckpt_syscall(CKPT_SYS_futex, (long)w, 9, v, (long)until, 0, bits);
}
CKPT_INLINE long ckpt_futex_wake_bits(const uint32_t *_Nonnull w, uint32_t bits) { return ckpt_syscall(CKPT_SYS_futex, (long)w, 10, 0x7fffffff, 0, 0, bits); }
CKPT_INLINE long ckpt_clock(int clock, struct ckpt_timespec *_Nonnull t) { return ckpt_syscall(CKPT_SYS_clock_gettime, clock, (long)t, 0, 0, 0, 0); }

CKPT_INLINE _Bool ckpt_page_is_zero(const void *_Nonnull page) {
    const uint64_t *w = (const uint64_t *)page;
    for (int i = 0; i < 512; i += 8) if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7]) return 0;
    return 1;
}

// C11 atomics on plain fields of shared structs: Swift's Atomic can't be a field of an imported C struct.
CKPT_INLINE uint32_t ckpt_load(const uint32_t *_Nonnull p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
CKPT_INLINE void ckpt_store(uint32_t *_Nonnull p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
CKPT_INLINE uint32_t ckpt_add(uint32_t *_Nonnull p, uint32_t v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }   // the value before
CKPT_INLINE uint64_t ckpt_add64(uint64_t *_Nonnull p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); } // the value before
CKPT_INLINE uint64_t ckpt_load64(const uint64_t *_Nonnull p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
CKPT_INLINE void ckpt_store64(uint64_t *_Nonnull p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
CKPT_INLINE void ckpt_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
CKPT_INLINE _Bool ckpt_cas(uint32_t *_Nonnull p, uint32_t expected, uint32_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
CKPT_INLINE _Bool ckpt_cas64(uint64_t *_Nonnull p, uint64_t expected, uint64_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
#endif

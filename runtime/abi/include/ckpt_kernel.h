// The kernel's own structures as x86_64 lays them out (not libc's).
#ifndef CKPT_KERNEL_H
#define CKPT_KERNEL_H
#include <stdint.h>
#include <stddef.h>

// rt_sigaction(2)
struct ckpt_sigaction { uint64_t handler, flags, restorer, mask; };
_Static_assert(sizeof(struct ckpt_sigaction) == 32, "kernel sigaction");

struct ckpt_siginfo {
    int32_t si_signo, si_errno, si_code, pad;
    union {
        struct { int32_t si_pid; uint32_t si_uid; uint64_t si_value; };
        uint8_t rest[112];
    };
};
_Static_assert(sizeof(struct ckpt_siginfo) == 128, "siginfo");

struct ckpt_sigcontext {
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trapno, oldmask, cr2;
    uint64_t fpstate;           // address of the FXSAVE/XSAVE image inside the frame
    uint64_t reserved[8];
};
_Static_assert(sizeof(struct ckpt_sigcontext) == 256, "sigcontext");

struct ckpt_stack { uint64_t sp; int32_t flags, pad; uint64_t size; };

struct ckpt_ucontext {
    uint64_t flags, link;
    struct ckpt_stack stack;    // rt_sigreturn(2) sets the alternate stack from here
    struct ckpt_sigcontext mc;
    uint64_t sigmask;           // rt_sigreturn(2) sets the mask from here
};
_Static_assert(sizeof(struct ckpt_ucontext) == 304, "ucontext");
_Static_assert(offsetof(struct ckpt_ucontext, mc) == 40, "mcontext offset");
_Static_assert(offsetof(struct ckpt_ucontext, sigmask) == 296, "sigmask offset");

// clone3(2)
struct ckpt_clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
_Static_assert(sizeof(struct ckpt_clone_args) == 88, "clone_args v2");
// Creates a process or a task by clone3(2); the child runs `entry(argument)` on the stack that `arguments` names and never returns.
// In clone.c.
long ckpt_clone3(struct ckpt_clone_args *_Nonnull arguments, void (*_Nonnull entry)(uint64_t), uint64_t argument) __attribute__((visibility("hidden")));

struct ckpt_itimerval { int64_t interval_sec, interval_usec, value_sec, value_usec; };
struct ckpt_itimerspec { int64_t interval_sec, interval_nsec, value_sec, value_nsec; };
struct ckpt_rlimit { uint64_t soft, hard; };

// sched_setattr(2), version 1
struct ckpt_sched_attr {
    uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority;
    uint64_t runtime, deadline, period; uint32_t util_min, util_max;
};
_Static_assert(sizeof(struct ckpt_sched_attr) == 56, "sched_attr");

// prctl(PR_SET_MM, PR_SET_MM_MAP)
struct ckpt_prctl_mm_map {
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end;
    uint64_t auxv; uint32_t auxv_size; uint32_t exe_fd;
};
_Static_assert(sizeof(struct ckpt_prctl_mm_map) == 104, "prctl_mm_map");

// timer_create(2)
struct ckpt_sigevent { uint64_t value; int32_t signo, notify, tid; int32_t pad[11]; };
_Static_assert(sizeof(struct ckpt_sigevent) == 64, "sigevent");

// ioctl(/proc/PID/pagemap, PAGEMAP_SCAN), Linux 6.7
struct ckpt_pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask, return_mask;
};
_Static_assert(sizeof(struct ckpt_pm_scan_arg) == 96, "pm_scan_arg");
struct ckpt_page_region { uint64_t start, end, categories; };
#define CKPT_PAGEMAP_SCAN 0xc0606610ul
enum { CKPT_PAGE_IS_WPALLOWED = 1, CKPT_PAGE_IS_WRITTEN = 2, CKPT_PAGE_IS_FILE = 4, CKPT_PAGE_IS_PRESENT = 8, CKPT_PAGE_IS_SWAPPED = 16,
       CKPT_PAGE_IS_PFNZERO = 32, CKPT_PAGE_IS_HUGE = 64, CKPT_PAGE_IS_GUARD = 256 };

// ioctl_userfaultfd(2)
struct ckpt_uffdio_api { uint64_t api, features, ioctls; };
struct ckpt_uffdio_register { uint64_t start, size, mode, ioctls; };
struct ckpt_uffdio_copy { uint64_t to, from, size, mode; int64_t done; };      // COPY and MOVE
struct ckpt_uffdio_zeropage { uint64_t start, size, mode; int64_t done; };
struct ckpt_uffdio_writeprotect { uint64_t start, size, mode; };
struct ckpt_uffdio_range { uint64_t start, size; };
struct ckpt_uffdio_poison { uint64_t start, size, mode; int64_t done; };
#define CKPT_UFFDIO_API 0xc018aa3ful
#define CKPT_UFFDIO_REGISTER 0xc020aa00ul
#define CKPT_UFFDIO_WAKE 0x8010aa02ul
#define CKPT_UFFDIO_COPY 0xc028aa03ul
#define CKPT_UFFDIO_ZEROPAGE 0xc020aa04ul
#define CKPT_UFFDIO_MOVE 0xc028aa05ul
#define CKPT_UFFDIO_WRITEPROTECT 0xc018aa06ul
#define CKPT_UFFDIO_POISON 0xc020aa08ul
enum { CKPT_UFFD_USER_MODE_ONLY = 1, CKPT_UFFD_MISSING = 1, CKPT_UFFD_WP = 2, CKPT_UFFD_CLOEXEC = 0x80000 };
enum { CKPT_UFFD_EVENT_FORK = 2, CKPT_UFFD_EVENT_REMAP = 4, CKPT_UFFD_EVENT_REMOVE = 8, CKPT_UFFD_EVENT_UNMAP = 64, CKPT_UFFD_MOVE = 1 << 16,
       CKPT_UFFD_WP_UNPOPULATED = 1 << 13, CKPT_UFFD_WP_ASYNC = 1 << 15 };
struct ckpt_uffd_msg { uint8_t event, pad[7]; uint64_t a, b, c; };
_Static_assert(sizeof(struct ckpt_uffd_msg) == 32, "uffd_msg");
enum ckpt_uffd_event { CKPT_UFFD_FAULT = 0x12, CKPT_UFFD_FORK = 0x13, CKPT_UFFD_REMAP = 0x14, CKPT_UFFD_REMOVE = 0x15, CKPT_UFFD_UNMAP = 0x16 };

// ioctl(2) on /proc/PID/maps: the mapping around an address (Linux 6.11).
struct ckpt_procmap_query { uint64_t size, flags, address, start, end, vma_flags, page_size, offset, inode; uint32_t major, minor, name_size, build_id_size; uint64_t name, build_id; };
_Static_assert(sizeof(struct ckpt_procmap_query) == 104, "procmap_query");
#define CKPT_PROCMAP_QUERY 0xc0686611ul

struct ckpt_iovec { uint64_t base, length; };

// The eight-byte-aligned control message that carries one descriptor (unix(7), SCM_RIGHTS).
struct ckpt_cmsg_fd { uint64_t length; int32_t level, type, fd, pad; };
struct ckpt_msghdr { uint64_t name; uint32_t namelen, pad0; uint64_t iov, iovlen, control, controllen; int32_t flags, pad1; };
struct ckpt_sockaddr_un { uint16_t family; char path[108]; };

// newfstatat(2)
struct ckpt_stat {
    uint64_t device, inode, links;
    uint32_t mode, uid, gid, pad0;
    uint64_t rdev; int64_t size, block_size, blocks;
    struct { int64_t sec, nsec; } accessed, modified, changed;
    int64_t unused[3];
};
_Static_assert(sizeof(struct ckpt_stat) == 144, "stat");

enum { CKPT_SIGSET_ALL = -1 };
#endif

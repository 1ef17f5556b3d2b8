// The statefile: one ELF64 file, two faces.
//
//   0x0000  ELF header (one face)            the only bytes that `ckptctl face` rewrites
//   0x0040  exec program headers             PT_LOADs of the embedded engine
//   0x0c00  struct ckpt_superblock
//   0x1000  the engine, a whole ELF file (static PIE)
//   aligned memory of every process, sparse: a VMA's pages at (its data_offset + address − start)
//           chunks of runs, contents of deleted files and pipes (also of mapped files with --self-contained)
//   tail    core program headers, core notes (of the main process), CKPT notes (the tables below)
//
// Every table is one ELF note, owner "CKPT", type CKPT_NOTE_BASE + enum ckpt_table: a struct ckpt_table_header and then `count` entries of `entry_size` bytes.
// A reader skips types it does not know, and rejects a known one whose entry_size is not its own.
// Pids and tids are those that the tasks themselves see.  Offsets are from the start of the file unless said otherwise.
// Text lies in the BYTES table, NUL-terminated, and is named by its offset there; offset 0 is the empty text.
#ifndef CKPT_STATEFILE_H
#define CKPT_STATEFILE_H
#include "ckpt_kernel.h"
#include "ckpt_sockets.h"
#include "ckpt_events.h"
#include "ckpt_terminals.h"
#include "ckpt_files.h"
#include "ckpt_ipc.h"
#include "ckpt_rings.h"

#define CKPT_STATEFILE_MAGIC 0x454c4946544b4b43ull
#define CKPT_NO_INDEX 0xffffffffu
enum {
    CKPT_STATEFILE_VERSION = 1,
    CKPT_SUPERBLOCK_OFFSET = 0xc00,
    CKPT_ENGINE_OFFSET = 0x1000,
    CKPT_IDENT_MARK_OFFSET = 9,     // e_ident[9..15] = "CKPTFIL": EI_PAD, ignored by everybody but our binfmt_misc rule
};
#define CKPT_IDENT_MARK "CKPTFIL"

struct ckpt_superblock {
    uint64_t magic;
    uint32_t version, size;                     // of this struct
    uint64_t file_size;
    uint64_t engine_offset, engine_size;
    uint64_t exec_phoff; uint32_t exec_phnum, core_phnum;
    uint64_t core_phoff;
    uint64_t exec_entry;                        // e_entry of the exec face
    uint64_t tables_offset, tables_size;        // the CKPT notes
    uint64_t core_notes_offset, core_notes_size;
    uint32_t tables_crc, core_notes_crc;        // CRC-32C
    uint8_t  id[16];
    uint32_t crc;                               // CRC-32C of all before it
    uint32_t engine_crc;                        // CRC-32C of the engine
};

// A statefile that was written to a pipe has a superblock that is complete but for what is not known at the beginning; file_size says so.
// The real one is the end of the file.
#define CKPT_SIZE_STREAMED 0xffffffffffffffffull
CKPT_INLINE uint64_t ckpt_size_streamed(void) { return CKPT_SIZE_STREAMED; }

// A note's type is CKPT_NOTE_BASE + its table: BFD takes small numbers for the core notes of any owner.
enum { CKPT_NOTE_BASE = 0x434b0000 };
enum ckpt_table {
    CKPT_TABLE_TREE = 1, CKPT_TABLE_PROCESS = 2, CKPT_TABLE_TASK = 3, CKPT_TABLE_VMA = 4, CKPT_TABLE_OBJECT = 5, CKPT_TABLE_DESCRIPTION = 6,
    CKPT_TABLE_FD = 7, CKPT_TABLE_PENDING = 8, CKPT_TABLE_TIMER = 9, CKPT_TABLE_GROUP = 10, CKPT_TABLE_BYTES = 11,
    CKPT_TABLE_LOCK = 12, CKPT_TABLE_SOCKET = 13, CKPT_TABLE_OPTION = 14, CKPT_TABLE_MESSAGE = 15, CKPT_TABLE_CARRIED = 16,   // CARRIED: DESCRIPTION (uint32_t)
    CKPT_TABLE_EVENT = 17, CKPT_TABLE_WATCHED = 18, CKPT_TABLE_WATCH = 19,
    CKPT_TABLE_IPC = 20, CKPT_TABLE_SEMAPHORE = 21,
    CKPT_TABLE_TERMINAL = 22, CKPT_TABLE_BASE = 38,
    CKPT_TABLE_ADJUSTMENT = 23, CKPT_TABLE_QUEUED = 24,
    CKPT_TABLE_CREDENTIALS = 25,
    CKPT_TABLE_GUARD = 26,
    CKPT_TABLE_NAMESPACE = 27, CKPT_TABLE_MOUNT = 30, CKPT_TABLE_SETTING = 31,
    CKPT_TABLE_SAVED = 28, CKPT_TABLE_EXTENT = 29,
    CKPT_TABLE_RING = 34,
    CKPT_TABLE_PACKING = 36,
    CKPT_TABLE_NUMBER = 32, CKPT_TABLE_ENTRY = 33,
    CKPT_TABLE_ID_RANGE = 39, CKPT_TABLE_NETWORK = 40,
};
struct ckpt_table_header { uint32_t version, entry_size; uint64_t count; };

// One entry: what belongs to the whole.
struct ckpt_tree {
    uint32_t root;                  // index of the main process: its exit status is the restart's
    uint32_t page_size;
    uint64_t realtime, monotonic, boottime;     // ns, as the tasks saw them at the instant (their time namespace included)
    uint32_t name, host, kernel, command;       // BYTES
    uint32_t ipc_unseen, pad0;                  // the session's
    uint64_t xcr0;                              // XGETBV(0)
    uint32_t xsave_size, pad1;                  // CPUID.0Dh:EBX
    uint32_t cpuid[24];             // leaves 1 (ecx, edx), 7.0 (ebx, ecx, edx), 7.1 (eax), 0x80000001 (ecx, edx), 0xd.1 (eax), then zeros
    uint32_t vdso_crc, vdso_size;   // CRC-32C of the vdso's text pages at the checkpoint
    char     session_id[24];
    int32_t  outer_sid, outer_pgid; // session and group of the main process when their leaders are not in the tree; else 0
};

enum ckpt_process_flags {
    CKPT_PROCESS_ZOMBIE = 1,        // exited, not yet waited for: only pid, parent, group, session, exit_status are set
    CKPT_PROCESS_STOPPED = 2,       // stopped by job control: comes back stopped
    CKPT_PROCESS_LEADER_GONE = 4,   // the main thread has left by pthread_exit: a zombie thread group leader
    CKPT_PROCESS_ORPHAN = 8,        // its parent is outside the tree and is not the launcher (re-parented)
};

struct ckpt_process_record {
    int32_t  pid, pgid, sid;
    uint32_t parent;                // index of the parent process, CKPT_NO_INDEX: outside the tree
    uint32_t flags;
    int32_t  exit_status;           // zombie: as wait(2) shows it
    uint32_t first_task, task_count;            // TASK
    uint32_t first_vma, vma_count;              // VMA, by address
    uint32_t first_fd, fd_count;                // FD, by number
    uint32_t first_pending, pending_count;      // PENDING for the process
    uint32_t first_timer, timer_count;          // TIMER
    uint64_t runs, shared_runs;     // first chunk of each chain, 0: none
    uint64_t session_address;       // where the session segment is mapped (CKPT_SESSION_SIZE bytes)
    uint32_t process_slot, pad0;    // index in the segment
    uint64_t vdso_address, vdso_size, vvar_address, vvar_size;  // sizes 0: has none.  vvar: all [vvar*] mappings together
    // mm
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end;
    uint32_t auxv, auxv_size;       // BYTES
    uint32_t exe;                   // OBJECT of /proc/PID/exe
    uint32_t cwd, root;             // OBJECT of the directories; root CKPT_NO_INDEX: the system's
    uint32_t umask, personality;
    int32_t  oom_score_adj;
    uint32_t uid[4], gid[4];        // real, effective, saved, file system
    uint32_t first_group, group_count;          // GROUP: supplementary groups (uint32_t)
    uint64_t cap_inheritable, cap_permitted, cap_effective, cap_bounding, cap_ambient;
    int32_t  dumpable, child_subreaper, keep_caps, securebits, tsc_mode, no_new_privs, thp_disable, io_flusher;
    struct ckpt_rlimit limits[16];
    struct ckpt_itimerval itimers[3];
    struct ckpt_sigaction actions[64];
    uint32_t comm, cmdline;         // BYTES; for the tools
    uint64_t coredump_filter;
    uint32_t protection_keys;       // a bit per key that pkey_alloc(2) gave
    int32_t  memory_merge;          // PR_SET_MEMORY_MERGE
    uint32_t terminal;              // 1 + TERMINAL: its controlling terminal; 0: it has none
    uint32_t membarrier;            // membarrier(2): a bit per command by which it is registered
    uint16_t wait_code, wait_signal;// what its parent has not collected yet: CLD_STOPPED and by which signal, or CLD_CONTINUED; 0: nothing
    int32_t  exit_signal;           // clone(2): what its parent gets when it ends; 0: nothing
    uint8_t  uts, ipc, net, mounts; // 1 + NAMESPACE: its own; 0: the one that the tree was started in
    uint32_t cgroup;                // BYTES: its control group (cgroup v2); 0: unknown
    int32_t  autogroup_nice;        // of its terminal session (sched(7)); 0 also where there are no autogroups
    uint32_t label;                 // BYTES: what a security module (AppArmor, SELinux) calls it; 0: there is none
    uint64_t spare[2];
    uint8_t  pids;                  // 1 + NAMESPACE: its pid namespace; 0: the one that the tree was started in
    uint8_t  children_pids;         // that of the children it will have, or CKPT_CHILDREN_*; 0: its own
    uint8_t  cgroups, times;        // 1 + NAMESPACE: as uts
    uint8_t  children_times;        // that of the children it will have; 0: its own
    uint8_t  users;                 // that of a part of the tree; 0: where the whole tree lives
    uint8_t  future_locks;          // mlockall(2): enum ckpt_future_locks
    uint8_t  no_exec_gain;          // PR_SET_MDWE
};
// A pid namespace that has no first process yet, and one whose first process has ended.
enum { CKPT_CHILDREN_FRESH = 255, CKPT_CHILDREN_DEAD = 254 };

struct ckpt_task_record {
    int32_t  tid;
    uint32_t process;
    uint64_t ucontext;              // address of the signal frame's struct ckpt_ucontext, in the process's memory
    uint64_t resume_rip, resume_rsp;
    uint64_t fs_base, gs_base;
    uint64_t robust_head, robust_length, tid_address;
    uint64_t rseq_address; uint32_t rseq_length, rseq_signature;
    uint64_t timer_slack;
    int32_t  parent_death_signal;
    uint32_t slot;                  // index of the task's slot in the segment
    uint32_t first_pending, pending_count;      // PENDING for the task
    char     comm[16];
    struct ckpt_sched_attr sched;   // policy, nice, priority
    uint32_t ioprio, is_leader;
    uint64_t affinity[16];          // CPUs 0 to 1023
    uint64_t sigmask;               // for the tools; the frame's is what counts
    uint64_t mce_kill;              // 1 + prctl(PR_MCE_KILL)'s policy; 0: unknown
    int32_t  policy;                // set_mempolicy(2): its mode and flags
    uint32_t speculation;           // as in the task's slot
    uint64_t policy_nodes;          // a bit per node, 0 to 63
    uint32_t credentials, pad1;     // CREDENTIALS
};

// A namespace that the tree has for itself.
enum ckpt_namespace_flags {
    CKPT_NAMESPACE_WHOLE = 1,       // all of the tree lives in it
    CKPT_NAMESPACE_LOOPBACK = 2,    // NET: its loopback is up
    CKPT_NAMESPACE_NO_SETGROUPS = 8,            // USER: "deny" in /proc/PID/setgroups
};
struct ckpt_namespace_record {
    uint32_t kind, flags;           // enum ckpt_namespace_kind: UTS, IPC, NET, MOUNT, PID, CGROUP, TIME, USER
    uint32_t host, domain;          // BYTES; CGROUP: `host` is the control group that is its root
    uint32_t around;                // PID: 1 + NAMESPACE of the one around it, or 0; MOUNT: of the part's that it was copied from, or 0
    uint32_t outer_user, outer_group;           // USER: who made it
    uint32_t owner;                 // 1 + NAMESPACE of the user namespace that it belongs to (USER: of the one around it), or 0: as the tree, or where it was started
    int64_t  monotonic, boottime;   // TIME: ns, by which its clocks are ahead of the rest of the tree
};
_Static_assert(sizeof(struct ckpt_namespace_record) == 48, "namespace_record");

// A line of uid_map or gid_map of a user namespace of the tree's own.  What is outside is called as in the one around it if the whole tree lives in it, else
// as all tables do: as in the innermost one that the whole tree lives in.
enum { CKPT_MAX_ID_RANGES = 340 };                              // of each, as in the kernel
struct ckpt_id_range_record { uint32_t namespaces, is_group, inside, outside, count; };       // NAMESPACE
_Static_assert(sizeof(struct ckpt_id_range_record) == 20, "id_range_record");

// What makes the devices of a network of the tree's own, their addresses and routes: a message to the kernel (rtnetlink(7)), in their order.
enum ckpt_network_stage { CKPT_NETWORK_PAIR = 1, CKPT_NETWORK_LINK = 2, CKPT_NETWORK_ADDRESS = 3, CKPT_NETWORK_ROUTE = 4 };
struct ckpt_network_record {
    uint32_t namespaces, stage;     // NAMESPACE where it is sent; enum ckpt_network_stage
    uint32_t message, size;         // BYTES
    uint32_t place, other;          // PAIR: where in the message the descriptor of NAMESPACE `other` goes; or 0 and no index
    uint32_t what, pad;             // BYTES
};
_Static_assert(sizeof(struct ckpt_network_record) == 32, "network_record");

// How a pid, tid, process group or session of the tree is called in a pid namespace of the tree's own.  All other pids in the tables are those of the
// namespace that the tree was started in, but what a process has noted itself (siginfo, timers, owners of descriptors).
struct ckpt_number_record { uint32_t namespaces; int32_t pid, inside; uint32_t pad; };      // NAMESPACE
_Static_assert(sizeof(struct ckpt_number_record) == 16, "number_record");

// The mounts of a mount namespace of the tree's own, in their order: of the whole tree's, those that the one that it was started in has not (BIND, TMPFS, PROC);
// of a part's all, with what they are mounted on.
enum ckpt_mount_kind {
    CKPT_MOUNT_BIND = 1,            // source: a path where the tree was started, where the whole tree lives, or in the part's that its namespace was copied from
    CKPT_MOUNT_TMPFS = 2,
    CKPT_MOUNT_PROC = 3,
    CKPT_MOUNT_INHERITED = 4,       // a part's: as in the namespace that its own was copied from; options: where it is shared with, if it is
    CKPT_MOUNT_NEW = 5,             // a part's: of a file system that only the tree has
};
enum ckpt_mount_propagation { CKPT_PROPAGATION_SHARED = 1, CKPT_PROPAGATION_SLAVE = 2, CKPT_PROPAGATION_UNBINDABLE = 4,
    CKPT_PROPAGATION_OUTSIDE = 8,       // shared with what it was inherited from
    CKPT_PROPAGATION_COVERED = 16,      // inherited, under another that is: nobody reaches it
    CKPT_PROPAGATION_READ_ONLY = 32 };  // NEW: its file system as a whole
struct ckpt_mount_record {
    uint32_t namespaces, kind;      // NAMESPACE; enum ckpt_mount_kind
    uint32_t source, target, options;           // BYTES
    uint32_t flags;                 // mount(2): MS_RDONLY and the like
    // of a part
    uint32_t parent, place;         // MOUNT on which it is, CKPT_NO_INDEX: the root; BYTES: where there, "" on its root
    uint32_t root, type;            // BYTES: what of its file system it shows, and which that is
    uint32_t system;                // NEW, PROC: the MOUNT that makes the file system, perhaps this one
    uint32_t shows;                 // PROC: 1 + NAMESPACE of the pids that it shows; NEW: of the message queues or network devices
    uint32_t propagation, peers;    // enum ckpt_mount_propagation; those with the same number are peers
    uint32_t mode, line;            // BIND: st_mode; BYTES: the end of its line in /proc/PID/mountinfo
    uint64_t rdev;                  // BIND
    uint32_t master;                // it receives from those whose `peers` is this; 0
    uint32_t owner;                 // BIND: whose what is bound was, for the tree; 0
};
_Static_assert(sizeof(struct ckpt_mount_record) == 80, "mount_record");

// What is in a tmpfs among them: folders before what is in them, the first is the tmpfs itself.
struct ckpt_entry_record {
    uint32_t mount, mode;           // MOUNT; st_mode
    uint32_t uid, gid;
    uint32_t path, target;          // BYTES: path below the mount, of a symbolic link what it says
    uint32_t link;                  // 1 + ENTRY of which it is another name; 0
    uint32_t gap;                   // names that were made in its folder before it, after the one before, and are gone: each has taken a position
    uint64_t rdev, size, content;   // content: file offset of `size` bytes
    struct ckpt_timespec accessed, modified;
    uint32_t after, reserved;       // of a folder that is open: such names after the last
    uint64_t listing;               // of a folder that is being read: 1 << 32 | CRC-32C of its names, each with what getdents64(2) says behind it; 0
};
_Static_assert(sizeof(struct ckpt_entry_record) == 104, "entry_record");

// A setting (sysctl) of a namespace of the tree's own that is not as in a new one.
struct ckpt_setting_record { uint32_t namespaces, path, value, pad; };      // NAMESPACE; BYTES: below /proc/sys, and what is written there
_Static_assert(sizeof(struct ckpt_setting_record) == 16, "setting_record");

// Who a task is: credentials belong to each task, though libc gives all of a process the same.
struct ckpt_credentials_record {
    uint32_t uid[4], gid[4];        // real, effective, saved, file system
    uint32_t first_group, group_count;          // GROUP
    uint64_t cap_inheritable, cap_permitted, cap_effective, cap_bounding, cap_ambient;
    int32_t  securebits, no_new_privs;
};
_Static_assert(sizeof(struct ckpt_credentials_record) == 88, "credentials_record");

enum ckpt_vma_kind {
    CKPT_VMA_ANONYMOUS = 0,         // private; also stacks and the heap
    CKPT_VMA_FILE = 1,              // private mapping of `object`
    CKPT_VMA_SHARED_FILE = 2,       // shared mapping of `object` (a regular file, also a deleted one whose contents are in the statefile)
    CKPT_VMA_SHARED_ANONYMOUS = 3,  // MAP_SHARED | MAP_ANONYMOUS: `object` is of kind SHMEM; shmat(2): of kind SEGMENT
    CKPT_VMA_SESSION = 4,           // the session segment: mapped anew
    CKPT_VMA_VDSO = 5, CKPT_VMA_VVAR = 6,
    CKPT_VMA_AIO = 7,               // the ring of an asynchronous I/O context; object_offset: how many events it holds; data_offset: all of it
    CKPT_VMA_RING = 34,             // a part of `object`, an io_uring
};
enum ckpt_vma_flags {
    CKPT_VMA_GROWSDOWN = 1, CKPT_VMA_NORESERVE = 2, CKPT_VMA_LOCKED = 4, CKPT_VMA_LOCKONFAULT = 8, CKPT_VMA_DONTFORK = 16, CKPT_VMA_WIPEONFORK = 32,
    CKPT_VMA_DONTDUMP = 64, CKPT_VMA_HUGEPAGE = 128, CKPT_VMA_NOHUGEPAGE = 256, CKPT_VMA_MERGEABLE = 512, CKPT_VMA_SEQUENTIAL = 1024,
    CKPT_VMA_RANDOM = 2048, CKPT_VMA_STACK = 4096, CKPT_VMA_HEAP = 8192, CKPT_VMA_MAYWRITE = 16384,   // shared: opened for writing
    CKPT_VMA_MERGED = 32768,        // none of its own
    CKPT_VMA_SEALED = 65536,        // mseal(2)
    CKPT_VMA_DROPPABLE = 131072,    // MAP_DROPPABLE
    CKPT_VMA_NAMED = 262144,        // PR_SET_VMA_ANON_NAME: `name` says it
};
struct ckpt_vma_record {
    uint64_t start, end;
    uint32_t protection;            // PROT_*
    uint32_t kind;                  // enum ckpt_vma_kind
    uint32_t flags;                 // enum ckpt_vma_flags
    uint32_t object;                // OBJECT, or CKPT_NO_INDEX
    uint64_t object_offset;
    uint64_t data_offset;           // where `start` lies in the statefile; 0: nothing of it is stored
    uint32_t name, process;         // BYTES: as /proc/PID/maps shows it
    uint8_t  key;                   // protection key
    uint8_t  page_shift;            // hugetlb: log2 of its pages' size; else 0
    uint16_t policy;                // mbind(2): its mode and flags; 0: none of its own
    uint32_t pad;
    uint64_t policy_nodes;          // a bit per node, 0 to 63
};
// Pages that fault whatever the protection (MADV_GUARD_INSTALL).
struct ckpt_guard_record { uint64_t start, end; uint32_t process, pad; };
_Static_assert(sizeof(struct ckpt_guard_record) == 24, "guard_record");


enum ckpt_object_kind {
    CKPT_OBJECT_REGULAR = 1,        // by path
    CKPT_OBJECT_DIRECTORY = 2,
    CKPT_OBJECT_DEVICE = 3,         // character device by path: /dev/null, zero, full, random, urandom, tty
    CKPT_OBJECT_FIFO = 4,           // by path; content: what is in it
    CKPT_OBJECT_PIPE = 5,           // content: what is in it; size: F_GETPIPE_SZ
    CKPT_OBJECT_DELETED = 6,        // regular file without a name: content holds all of it
    CKPT_OBJECT_SHMEM = 7,          // shared anonymous memory; size; pages in the shared chains
    CKPT_OBJECT_OUTSIDE = 8,        // a terminal or a pipe to the outside on a standard stream: connected to the restart's
    CKPT_OBJECT_MEMFD = 9,          // content holds all of it; path: its name
    CKPT_OBJECT_SOCKET = 10,        // detail: SOCKET
    CKPT_OBJECT_EVENTFD = 11,       // detail: EVENT, as for all of these
    CKPT_OBJECT_TIMERFD = 12, CKPT_OBJECT_SIGNALFD = 13, CKPT_OBJECT_EPOLL = 14, CKPT_OBJECT_INOTIFY = 15, CKPT_OBJECT_PIDFD = 16,
    CKPT_OBJECT_SEGMENT = 17,       // System V shared memory; size; pages in the shared chains; detail: IPC
    CKPT_OBJECT_QUEUE = 18,         // POSIX message queue; detail: IPC
    CKPT_OBJECT_PTY_MASTER = 20,    // detail: TERMINAL, as for these three
    CKPT_OBJECT_PTY_SLAVE = 21,
    CKPT_OBJECT_PTY_CONTROLLING = 22,   // /dev/tty of a process whose controlling terminal is a pseudo-terminal of the tree
    CKPT_OBJECT_PATH = 32,          // opened with O_PATH: whatever has this name, never followed
    CKPT_OBJECT_PROC = 33,          // a file or folder of /proc; detail: the pid of the tree that it belongs to, or 0; opened when that is back
    CKPT_OBJECT_NAMESPACE = 34,     // /proc/PID/ns/`path`, one that the tree is in
    CKPT_OBJECT_DELETED_FOLDER = 35,
    CKPT_OBJECT_RING = 48,          // io_uring; detail: RING
    CKPT_OBJECT_KINDS = 49,
};
struct ckpt_object_record {
    uint32_t kind, mode;            // st_mode
    uint64_t device, inode, rdev;
    uint64_t size;
    int64_t  mtime_sec, mtime_nsec;
    uint32_t path;                  // BYTES
    uint32_t build_id, build_id_size;           // BYTES
    uint32_t uid, gid;
    uint32_t written;               // a task has it open for writing: its size is checked
    uint64_t content, content_size; // file offset of what is stored of it; content_size bytes, 0: nothing
    uint32_t flags, seals;
    uint32_t detail;                // index in the table of its kind
    uint32_t page_shift;            // memory on hugetlb: log2 of its pages' size; else 0
    uint32_t mounts, pad;           // 1 + NAMESPACE: the mount namespace of a part in which it has its path; 0
};
enum ckpt_object_flags { CKPT_OBJECT_SELF_CONTAINED = 1, CKPT_OBJECT_MAPPED = 2, CKPT_OBJECT_OPENED = 4, CKPT_OBJECT_SAVED = 8, CKPT_OBJECT_UNNAMED = 16,
       CKPT_OBJECT_MEMORY = 256, CKPT_OBJECT_USED_OUTSIDE = 512, CKPT_OBJECT_INHERITED = 1024, CKPT_OBJECT_DETACHED = 2048 };    // UNNAMED: made by O_TMPFILE, may get a name; a FIFO: it has lost its name    // MEMORY: below /dev/shm, stored without --save-files; USED_OUTSIDE: such a one that others map too, not stored; INHERITED: in a mount that a part has as the tree was started with; DETACHED: in one that was unmounted while it was in use, like that at `detail` (BYTES), where the tree was started

struct ckpt_description_record {
    uint32_t object;
    uint32_t flags;                 // open(2) flags as /proc/PID/fdinfo shows them, without O_CLOEXEC
    uint64_t position;
    uint32_t users;                 // how many processes hold it: 1: the process opens it itself; more than those when the engine must open it
    int32_t  standard;              // 0, 1, 2: OUTSIDE: which stream of the restart it is connected to; −1
    int32_t  owner_type, owner_pid; // F_GETOWN_EX: 0 TID, 1 PID, 2 PGRP; owner_pid 0: none
    int32_t  owner_signal;          // F_GETSIG
    uint32_t no_hangup;             // a FIFO's reading end that has not seen a writer yet: it does not report a hang-up
};
struct ckpt_fd_record { uint32_t process; int32_t number; uint32_t description, close_on_exec; };

struct ckpt_pending_record { uint32_t process, task; struct ckpt_siginfo info; };   // task: CKPT_NO_INDEX: pending for the process

struct ckpt_timer_record {
    uint32_t process; int32_t id, clock, overrun;
    struct ckpt_itimerspec left;    // it_value 0: disarmed
    uint64_t value; int32_t signo, notify, tid, pad;
};

// A file lock or lease (fcntl(2), flock(2)): POSIX locks belong to the process, the others to the description behind `fd`.
enum ckpt_lock_kind { CKPT_LOCK_POSIX = 1, CKPT_LOCK_FLOCK = 2, CKPT_LOCK_OFD = 3, CKPT_LOCK_LEASE = 4 };
struct ckpt_lock_record {
    uint32_t process, kind;         // enum ckpt_lock_kind
    int32_t  fd;                    // a descriptor of that process on the file
    uint32_t exclusive;             // 0: shared (read)
    uint64_t start, length;         // length 0: to the end of the file, however long
};
_Static_assert(sizeof(struct ckpt_lock_record) == 32, "lock_record");

// Memory: each process's pages are a chain of chunks, each full of runs.
enum { CKPT_CHUNK_MAGIC = 0x4e555243, CKPT_CHUNK_SIZE = 65536, CKPT_RUN_PAGES = 256 };
enum ckpt_run_flags { CKPT_RUN_HUGE = 1,        // it was on huge pages
       CKPT_RUN_KIND_SHIFT = 1, CKPT_RUN_KIND_MASK = 3,     // enum ckpt_compression
       CKPT_RUN_STORED_SHIFT = 8 };             // bits 8 to 31: how many bytes a compressed run takes in the file
// A run is one frame, so that any number of threads can compress and decompress; what does not become smaller stays as it is.  Of a frame that has more than what
// counts, since a delta keeps some of its base's pages or some were written after they had been read early, there is a run for each part.
enum ckpt_compression { CKPT_COMPRESSION_NONE = 0, CKPT_COMPRESSION_ZSTD = 1, CKPT_COMPRESSION_LZ4 = 2 };
struct ckpt_run {
    uint64_t address;               // shared chain: offset in the object
    uint64_t file_offset;
    uint16_t pages;                 // of 4096 bytes, at most CKPT_RUN_PAGES
    uint8_t  skipped, frame;        // a part of a frame: how many of its pages come before these, and how many it has, less one; else 0
    uint32_t crc;                   // CRC-32C of the pages, compressed or not
    uint32_t flags, object;         // object: OBJECT, in the shared chain
};
_Static_assert(sizeof(struct ckpt_run) == 32, "run");
CKPT_INLINE uint32_t ckpt_run_kind(struct ckpt_run r) { return r.flags >> CKPT_RUN_KIND_SHIFT & CKPT_RUN_KIND_MASK; }
// Pages of the whole frame.
CKPT_INLINE uint32_t ckpt_run_frame(struct ckpt_run r) { return r.frame ? r.frame + 1u : r.pages; }
// Bytes that it takes in the file.
CKPT_INLINE uint64_t ckpt_run_stored(struct ckpt_run r) { return ckpt_run_kind(r) ? r.flags >> CKPT_RUN_STORED_SHIFT : (uint64_t)r.pages * 4096; }
struct ckpt_chunk { uint32_t magic, count; uint64_t next; uint32_t crc, pad; uint64_t pad2; };    // then `count` runs; crc: of the runs
_Static_assert(sizeof(struct ckpt_chunk) == 32, "chunk header");
// What the initiator hands a writer: the statefile, or a socket that takes a message per run, each with its pages behind it.
enum ckpt_channel { CKPT_CHANNEL_FILE = 1, CKPT_CHANNEL_STREAM = 2 };
struct ckpt_page_message {
    struct ckpt_run run;            // without a place in the file and a checksum
    uint32_t process, shared;       // slot; whether it belongs to the shared chain.  A run that lies in a base has no pages behind it
};
_Static_assert(sizeof(struct ckpt_page_message) == 40, "page_message");
// One entry where runs lie in the order in which they came, not at the place of their mapping: a compressed statefile, or a streamed one.
enum { CKPT_DATA_PACKED = 1 };      // data_offset of a mapping there: something of it may be stored
struct ckpt_packing_record { uint32_t compression; int32_t level; uint64_t pages, stored; };        // bytes: of pages, and what they take in the file
_Static_assert(sizeof(struct ckpt_packing_record) == 24, "packing_record");
enum { CKPT_CHUNK_RUNS = (CKPT_CHUNK_SIZE - 32) / 32 };

// A delta: a run whose pages did not change lies where it lay, in one of the statefiles that the table BASE names: the one that the delta was taken since first,
// then those that that one names.  What is in them is found by id, whatever their names are now.
enum { CKPT_RUN_BASE_SHIFT = 3, CKPT_RUN_BASE_MASK = 31, CKPT_MAX_BASES = 16 };
enum ckpt_known_flags { CKPT_RUN_UNWRITTEN = 1 };     // only in the arena, where CKPT_RUN_HUGE does not matter: none of its pages has been written since, as far as the kernel has noted
struct ckpt_base_record { uint8_t id[16]; uint32_t path, pad; };       // the superblock's; BYTES: where it was
_Static_assert(sizeof(struct ckpt_base_record) == 24, "base_record");
// 1 + BASE: which statefile has its pages; 0: this one.
CKPT_INLINE uint32_t ckpt_run_base(struct ckpt_run r) { return r.flags >> CKPT_RUN_BASE_SHIFT & CKPT_RUN_BASE_MASK; }
CKPT_INLINE uint8_t *_Nonnull ckpt_base_id(struct ckpt_base_record *_Nonnull b) { return b->id; }

// A statefile outlives the compiler that laid it out: every size is part of the format.
_Static_assert(sizeof(struct ckpt_process_record) == 2840, "process_record");
_Static_assert(sizeof(struct ckpt_task_record) == 360, "task_record");
_Static_assert(sizeof(struct ckpt_superblock) == 136, "superblock");
_Static_assert(sizeof(struct ckpt_tree) == 208, "tree");
_Static_assert(sizeof(struct ckpt_vma_record) == 72, "vma_record");
_Static_assert(sizeof(struct ckpt_object_record) == 120, "object_record");
_Static_assert(sizeof(struct ckpt_description_record) == 40, "description_record");
_Static_assert(sizeof(struct ckpt_fd_record) == 16, "fd_record");
_Static_assert(sizeof(struct ckpt_pending_record) == 136, "pending_record");
_Static_assert(sizeof(struct ckpt_timer_record) == 72, "timer_record");

CKPT_INLINE uint64_t ckpt_statefile_magic(void) { return CKPT_STATEFILE_MAGIC; }
CKPT_INLINE struct ckpt_rlimit *_Nonnull ckpt_record_limit(struct ckpt_process_record *_Nonnull p, int i) { return &p->limits[i]; }
CKPT_INLINE struct ckpt_itimerval *_Nonnull ckpt_record_itimer(struct ckpt_process_record *_Nonnull p, int i) { return &p->itimers[i]; }
CKPT_INLINE struct ckpt_sigaction *_Nonnull ckpt_record_action(struct ckpt_process_record *_Nonnull p, int signal) { return &p->actions[signal - 1]; }
CKPT_INLINE uint64_t *_Nonnull ckpt_record_affinity(struct ckpt_task_record *_Nonnull t) { return &t->affinity[0]; }
CKPT_INLINE char *_Nonnull ckpt_record_comm(struct ckpt_task_record *_Nonnull t) { return t->comm; }
CKPT_INLINE uint32_t *_Nonnull ckpt_tree_cpuid(struct ckpt_tree *_Nonnull t) { return &t->cpuid[0]; }
// The words of ckpt_tree.cpuid, of this CPU; leaves that it does not have read as zero.
CKPT_INLINE void ckpt_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *_Nonnull r) {
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(subleaf));
}
CKPT_INLINE void ckpt_cpu_words(uint32_t *_Nonnull words) {
    static const struct { uint32_t leaf, subleaf, reg; } wanted[9] = {
        {1, 0, 2}, {1, 0, 3}, {7, 0, 1}, {7, 0, 2}, {7, 0, 3}, {7, 1, 0}, {0x80000001u, 0, 2}, {0x80000001u, 0, 3}, {0xd, 1, 0} };
    uint32_t r[4];
    for (int i = 0; i < 9; i++) {
        ckpt_cpuid(wanted[i].leaf & 0x80000000u, 0, r);
        if (r[0] < wanted[i].leaf) { words[i] = 0; continue; }
        ckpt_cpuid(wanted[i].leaf, wanted[i].subleaf, r);
        words[i] = r[wanted[i].reg];
    }
}
// Protection keys, and enabled by the kernel (OSPKE).
CKPT_INLINE _Bool ckpt_has_protection_keys(void) {
    uint32_t r[4];
    ckpt_cpuid(0, 0, r);
    if (r[0] < 7) return 0;
    ckpt_cpuid(7, 0, r);
    return r[2] >> 4 & 1;
}
// A signal handler starts with no right to memory under any key but 0; the right to all, until sigreturn.
CKPT_INLINE void ckpt_allow_all_keys(void) {
    if (ckpt_has_protection_keys()) __asm__ volatile(".byte 0x0f,0x01,0xef" :: "a"(0), "c"(0), "d"(0) : "memory");     // wrpkru
}
// XGETBV(0): the register states that the kernel saves; 0 without XSAVE.
CKPT_INLINE uint64_t ckpt_xgetbv(void) {
    uint32_t a, d, r[4];
    ckpt_cpuid(1, 0, r);
    if (!(r[2] & (1u << 27))) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}
CKPT_INLINE uint32_t ckpt_xsave_size(void) {
    uint32_t r[4];
    ckpt_cpuid(0xd, 0, r);
    return r[1];
}
// Bytes that an XSAVE image of these states takes here: CPUs lay the same states out in different places (CPUID.0Dh).
CKPT_INLINE uint32_t ckpt_xsave_layout(uint64_t states) {
    uint32_t r[4], end = 576;
    for (uint32_t i = 2; i < 63; i++) {
        if (!(states >> i & 1)) continue;
        ckpt_cpuid(0xd, i, r);
        if (r[0] && r[1] + r[0] > end) end = r[1] + r[0];
    }
    return end;
}
CKPT_INLINE uint32_t ckpt_no_index(void) { return CKPT_NO_INDEX; }

// CRC-32C by the instruction of SSE4.2: every x86-64 since 2008.  It takes three cycles and one may begin in each, so that three streams go side by side.
CKPT_INLINE uint64_t ckpt_crc32c_words(uint64_t c, const uint8_t *_Nonnull b, size_t n) {
    for (; n >= 8; b += 8, n -= 8) __asm__("crc32q %1, %0" : "+r"(c) : "rm"(*(const uint64_t *)b));
    return c;
}
// The product of two polynomials modulo that of the CRC, bits reversed.
CKPT_INLINE uint32_t ckpt_crc32c_times(uint32_t a, uint32_t b) {
    uint32_t r = 0;
    for (int i = 0; i < 32; i++, b <<= 1, a = a >> 1 ^ (0x82f63b78u & -(a & 1))) r ^= a & -(b >> 31);
    return r;
}
// Of bytes and the page behind them, from the checksums of both: x to the power of 8 * 4096.
CKPT_INLINE uint32_t ckpt_crc32c_append_page(uint32_t before, uint32_t page) { return ckpt_crc32c_times(before, 0x35d73a62u) ^ page; }
enum { CKPT_CRC_STREAM = 5456, CKPT_CRC_BLOCK = 16384 };     // three streams, and 16 bytes more
static inline __attribute__((noinline, unused)) uint32_t ckpt_crc32c_hw(uint32_t crc, const void *_Nonnull p, size_t n) {
    const uint8_t *b = (const uint8_t *)p;
    uint64_t c = ~crc;
    for (; n >= CKPT_CRC_BLOCK; b += CKPT_CRC_BLOCK, n -= CKPT_CRC_BLOCK) {
        uint64_t second = 0, third = 0;
        c = (uint32_t)c;
        for (const uint8_t *s = b; s < b + CKPT_CRC_STREAM; s += 8) {
            __asm__("crc32q %1, %0" : "+r"(c) : "m"(*(const uint64_t *)s));
            __asm__("crc32q %1, %0" : "+r"(second) : "m"(*(const uint64_t *)(s + CKPT_CRC_STREAM)));
            __asm__("crc32q %1, %0" : "+r"(third) : "m"(*(const uint64_t *)(s + 2 * CKPT_CRC_STREAM)));
        }
        // x to the power of 8 * 2 * CKPT_CRC_STREAM, and of 8 * CKPT_CRC_STREAM
        c = ckpt_crc32c_times((uint32_t)c, 0xf6df4ba3u) ^ ckpt_crc32c_times((uint32_t)second, 0x6b3085d6u) ^ (uint32_t)third;
        c = ckpt_crc32c_words(c, b + 3 * CKPT_CRC_STREAM, 16);
    }
    c = ckpt_crc32c_words(c, b, n);
    uint32_t d = (uint32_t)c;
    for (b += n & ~7ul, n &= 7; n--;) __asm__("crc32b %1, %0" : "+r"(d) : "rm"(*b++));
    return ~d;
}
#endif

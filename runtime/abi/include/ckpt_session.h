// The session segment: one MAP_SHARED file that every task of a session and the initiator (or, on a restart, the engine) map.
// It holds the barrier, a slot per process and per task, and an arena for what has no fixed size.
// The file is sparse: only the slots in use cost memory.  The initiator allocates them (fallocate) before it calls anybody, so that
// a full file system is an error of the tool and never a SIGBUS in the application.
#ifndef CKPT_SESSION_H
#define CKPT_SESSION_H
#include "ckpt_kernel.h"
#include "ckpt_ipc.h"

#define CKPT_SESSION_ENVIRONMENT "CKPT_SESSION"   // the segment's absolute path, in every member's environment
enum {
    CKPT_ABI_VERSION = 3,
    // SIGCKPT.  The highest real-time signal is dequeued last: when an application's signal is pending with it, that one's frame lies below ours.
    CKPT_SIGCKPT = 64,
    CKPT_MAX_PROCESSES = 2048,
    CKPT_MAX_TASKS = 8192, CKPT_MAX_WRITERS = 64,
    CKPT_PAGE = 4096,
    CKPT_SESSION_IPC = 400,
    CKPT_SESSION_NOTED = 10,
};
#define CKPT_SIGCKPT_BIT (1ull << (CKPT_SIGCKPT - 1))
#define CKPT_SESSION_MAGIC 0x53534553544b4b43ull
#define CKPT_ARENA_SIZE (48ull << 20)

// The low five bits of the phase word.  Three more count the phases, so that a task that slept through one sees that the next of the same name is
// another; the upper three bytes are the generation.
enum { CKPT_PHASE_MASK = 31, CKPT_PHASE_COUNT_SHIFT = 5 };
enum ckpt_phase {
    CKPT_PHASE_IDLE = 0,        // nothing under way: a SIGCKPT only reaps a finished snapshot
    CKPT_PHASE_CALL = 1,        // tasks enter the handler, claim a slot, write down their own state and wait
    CKPT_PHASE_STOPPED = 2,     // membership is closed: everybody is in, the initiator reads what it can see from outside
    CKPT_PHASE_RECORD = 3,      // leaders fill in what the initiator asked for (POSIX timers)
    CKPT_PHASE_DRAIN = 4,       // leaders take pending signals off their queues (only if some are pending)
    CKPT_PHASE_DRAIN_OTHERS = 5,// the other tasks of those processes do
    CKPT_PHASE_REQUEUE = 6,     // everybody queues to itself what it took
    CKPT_PHASE_MEMORY = 7,      // leaders clone a snapshot, or write in place
    CKPT_PHASE_RELEASE = 8,     // tasks leave the handler; the pause is over
    CKPT_PHASE_ABORT = 9,       // the same after an error
    CKPT_PHASE_RESTORE = 10,    // on a restart: tasks have come back into their handlers and wait for each other
    CKPT_PHASE_TERMINALS = 16,  // leaders take what is unread in pseudo-terminals whose masters their processes have
    CKPT_PHASE_TERMINALS_BACK = 17, // and put it back
    CKPT_PHASE_ASK = 20,        // leaders make the system calls that the initiator asks for; all arrive, since the next question is in the same place
    CKPT_PHASE_QUEUES = 21,     // leaders take what is in POSIX message queues, and put it back
    CKPT_PHASE_END = 11,        // the handler does not return: the process ends (after a committed --kill)
};

// The generation of a restart.  Checkpoints come back to neither it nor 0, the one that a restart's slots are claimed with.
enum { CKPT_RESTORE_GENERATION = 1, CKPT_LAST_GENERATION = 0xffffff };

// Who sleeps on the phase word: a phase in which only leaders do something lets the others sleep on.
enum { CKPT_WAITS_AS_LEADER = 1, CKPT_WAITS_AS_FOLLOWER = 2 };

enum ckpt_memory_mode { CKPT_MEMORY_SNAPSHOT = 0, CKPT_MEMORY_IN_PLACE = 1, CKPT_MEMORY_NONE = 2 };

enum ckpt_snapshot_state {
    CKPT_SNAPSHOT_NONE = 0, CKPT_SNAPSHOT_CLONED = 1, CKPT_SNAPSHOT_DETACHED = 2, CKPT_SNAPSHOT_DONE = 3, CKPT_SNAPSHOT_FAILED = 4,
};

// In the order in which a session keeps their numbers.
enum ckpt_namespace_kind {
    CKPT_NAMESPACE_UTS = 1, CKPT_NAMESPACE_IPC = 2, CKPT_NAMESPACE_NET = 3, CKPT_NAMESPACE_CGROUP = 4,
    CKPT_NAMESPACE_USER = 5, CKPT_NAMESPACE_MOUNT = 6, CKPT_NAMESPACE_PID = 7, CKPT_NAMESPACE_TIME = 8,     // these a restart may make anew for all
};
enum { CKPT_NAMESPACE_KINDS = 8, CKPT_MAX_NAMESPACES = 64 };     // of a tree's own

// Why a task aborts; `error` in a slot, worded by the tools.
enum ckpt_error {
    CKPT_ERROR_NONE = 0,
    CKPT_ERROR_TRAP = 1,            // the runtime found itself wrong
    CKPT_ERROR_SLOTS = 2,           // more processes or tasks than the segment has slots
    CKPT_ERROR_ARENA = 3,           // the arena is full
    CKPT_ERROR_CLONE = 4,           // the snapshot could not be cloned (never final: memory is then written in place)
    CKPT_ERROR_CONNECT = 5,         // the initiator's socket could not be reached
    CKPT_ERROR_DESCRIPTOR = 6,      // the statefile's descriptor did not arrive
    CKPT_ERROR_PAGEMAP = 7,         // /proc/PID/pagemap could not be read
    CKPT_ERROR_WRITE = 8,           // writing to the statefile failed
    CKPT_ERROR_RSEQ = 9,            // an rseq area that is not libc's
    CKPT_ERROR_APPLICATION = 10,    // a callback of the application refused
    CKPT_ERROR_INITIATOR = 11,      // the initiator died
    CKPT_ERROR_RESTORE = 12,        // a task could not restore a part of itself
    CKPT_ERROR_SIGNALS = 13,        // pending signals could not be read
    CKPT_ERROR_UNMAP = 14,
    CKPT_ERROR_QUEUE = 21,          // a POSIX message queue did not take back what was in it
    CKPT_ERROR_SEGMENT = 20,        // System V shared memory could not be attached
    CKPT_ERROR_TERMINAL = 16,       // a pseudo-terminal did not take back what was in it
};

// What a task asks of or is asked in `request`.
enum ckpt_request {
    CKPT_REQUEST_DRAIN = 1,         // take your pending signals
    CKPT_REQUEST_DRAIN_SHARED = 2,  // and, before the others, the process's: the main thread if it lives, since the kernel lets only it queue any siginfo to the process
};

struct ckpt_failure {
    uint32_t code;                  // enum ckpt_error; set last, by compare-and-swap: the first failure wins
    int32_t  errno_value;           // positive errno or 0
    int32_t  pid, tid;              // as the task sees them
    uint64_t detail;                // an address, a signal number, …, as the code says
};

// A range of one process's memory that its snapshot writes: an array of these lies in the arena.
enum ckpt_range_kind {
    CKPT_RANGE_ANONYMOUS = 0,       // all pages present or swapped that are not zero
    CKPT_RANGE_FILE = 1,            // only the pages that are no longer the file's
    CKPT_RANGE_SHARED = 2,          // written before the release, into the shared chain
    CKPT_RANGE_DONTFORK = 3,        // a clone does not inherit it: copied before the clone to `copy`
    CKPT_RANGE_WIPEONFORK = 4,      // the same
    CKPT_RANGE_SEGMENT = 6,         // System V shared memory: like SHARED, but no clone may have it, since attachments are counted and dated;
                                    // copy & 1 as for SHARED, copy & 2: MADV_DONTFORK already;
                                    // start 0: attached nowhere in the tree, and read through an attachment of the leader's; its id is copy >> 32
    CKPT_RANGE_EARLY = 7,           // it has been read (--pre-copy): no clone needs its pages; copy: none has them
    CKPT_RANGE_WHOLE = 5,           // every page that can be read, whatever it belongs to (a private mapping of a deleted file, the vdso)
};
struct ckpt_range {
    uint64_t start, end;            // addresses
    uint64_t file_offset;           // where `start` lies in the statefile
    uint32_t kind, object;          // object: index of a shared object (CKPT_RANGE_SHARED)
    uint64_t object_offset;         // where `start` lies in the shared object
    uint64_t copy;                  // filled by the leader: address of the copy
};
_Static_assert(sizeof(struct ckpt_range) == 48, "range");

// A POSIX timer: the initiator fills id from /proc/PID/timers, the leader the rest by timer_gettime(2).
struct ckpt_timer_query { int32_t id, overrun; struct ckpt_itimerspec left; };
_Static_assert(sizeof(struct ckpt_timer_query) == 40, "timer query");

// Who gets a descriptor's signals: the initiator fills fd, the leader the rest by fcntl(2) F_GETOWN_EX and F_GETSIG;
// of a socket (is_socket) also whom it shows as its peer (SO_PEERCRED), in the numbers of the leader's namespaces.
struct ckpt_owner_query { int32_t fd, type, pid, signal, is_socket, peer_pid; uint32_t peer_uid, peer_gid; };
_Static_assert(sizeof(struct ckpt_owner_query) == 32, "owner query");

// A socket option that the initiator changes in order to look.  It is set back by the initiator or, if that died, by whoever of its holders is let go first.
enum { CKPT_UNDO_HOLDERS = 12, CKPT_UNDO_VALUE = 16 };
enum ckpt_undo_state { CKPT_UNDO_DONE = 0, CKPT_UNDO_ACTIVE = 1, CKPT_UNDO_UNDER_WAY = 2 };
struct ckpt_undo_holder { uint32_t process; int32_t fd; };     // process: its slot
struct ckpt_undo {
    uint32_t state;                 // atomic: enum ckpt_undo_state
    int32_t  level, name;
    uint32_t size, holder_count;
    uint8_t  value[CKPT_UNDO_VALUE];
    struct ckpt_undo_holder holders[CKPT_UNDO_HOLDERS];
    uint32_t pad;
};
_Static_assert(sizeof(struct ckpt_undo) == 136, "undo");

// What a wait for stopped and continued children would give: the initiator fills the pid, the leader the rest by waitid(2) with WNOWAIT.
struct ckpt_child_query { int32_t pid, code, status, pad; };
_Static_assert(sizeof(struct ckpt_child_query) == 16, "child query");

// The memory policy of one mapping: the initiator fills the address, the leader the rest by get_mempolicy(2).
struct ckpt_policy_query { uint64_t address, nodes; int32_t mode, error; };
_Static_assert(sizeof(struct ckpt_policy_query) == 24, "policy query");

struct ckpt_pending { struct ckpt_siginfo info; uint32_t shared, pad; };    // shared: pending for the process, not for the task
_Static_assert(sizeof(struct ckpt_pending) == 136, "pending");

enum ckpt_keyrings { CKPT_KEYRING_THREAD = 1, CKPT_KEYRING_PROCESS = 2, CKPT_KEYRING_SESSION_KEYS = 4 };   // SESSION_KEYS: keys in a session keyring
struct ckpt_task {
    uint32_t status;                // atomic: the phase that this task has reached
    int32_t  tid, pid;              // in the task's own pid namespace
    uint32_t is_leader;             // it writes the process's state; the first of its process to arrive
    uint64_t ucontext;              // address of struct ckpt_ucontext in the signal frame
    uint64_t resume_rip, resume_rsp;// where a restart lets the task go on, inside the handler
    uint64_t fs_base, gs_base;
    uint64_t robust_head, robust_length;
    uint64_t tid_address;           // set_tid_address(2): cleared and woken when the task exits
    uint64_t rseq_address;          // 0: not registered
    uint32_t rseq_length, rseq_signature;
    uint64_t timer_slack;           // ns
    int32_t  parent_death_signal;
    uint32_t request;               // enum ckpt_request bits, set by the initiator
    uint64_t pending_offset;        // in the arena
    uint32_t pending_count, requeued;
    uint32_t parked, left;          // atomic
    uint32_t thp_disable, mce_kill; // prctl(2)
    int32_t  policy, policy_error;  // get_mempolicy(2)
    uint64_t policy_nodes;
    int32_t  securebits, session_keyring;   // session_keyring: its serial number when it is not the user's default; 0: it is
    uint32_t keyrings, pad1;        // enum ckpt_keyrings; only if the initiator asked
    uint32_t pids;                  // number of its pid namespace; 0: it could not find out
    uint32_t speculation;           // PR_GET_SPECULATION_CTRL: a byte for each kind, 0x80 + its state; 0: unknown
    uint64_t spare[9];
};
_Static_assert(sizeof(struct ckpt_task) == 256, "task slot");


// What is nowhere else for that long: no task of the tree runs on before it is back.
enum ckpt_held { CKPT_HELD_TERMINALS = 1, CKPT_HELD_MESSAGES = 2 };
enum ckpt_future_locks { CKPT_LOCKS_NOTHING = 0, CKPT_LOCKS_FUTURE = 1, CKPT_LOCKS_ON_FAULT = 2 };
struct ckpt_process {
    uint32_t status;                // atomic: the phase that the leader has completed
    int32_t  pid;                   // in its own pid namespace
    uint32_t leader_task;           // index of the leader's task slot
    uint32_t memory_mode;           // enum ckpt_memory_mode; set by the initiator
    uint64_t ranges_offset;         // arena: struct ckpt_range[]
    uint32_t ranges_count, ranges_early;    // early: how many must be written before the release (shared memory)
    uint64_t timers_offset;         // arena: struct ckpt_timer_query[]
    uint32_t timers_count;
    uint32_t snapshot_state;        // atomic: enum ckpt_snapshot_state
    int32_t  snapshot_pid;          // in the process's pid namespace; 0: none to reap
    int32_t  snapshot_clone_errno;  // why memory was written in place
    uint64_t runs, shared_runs;     // statefile offsets of the first chunk of each chain
    uint64_t pages_written, bytes_done;
    uint64_t brk;
    // prctl(2) settings that /proc does not show
    int32_t  dumpable, child_subreaper, keep_caps, securebits, tsc_mode, no_new_privs, thp_disable, io_flusher;
    struct ckpt_itimerval itimers[3];
    struct ckpt_sigaction actions[64];  // index: signal − 1
    uint64_t engine_base, engine_size;  // restart: what the leader unmaps once everybody is back in the runtime
    uint32_t returned;              // atomic, restart: tasks of this process that are back
    uint32_t expected;              // restart: how many there are
    uint64_t runtime_base;          // where this process has the runtime, for the tools
    uint64_t monotonic, boottime;   // ns, in the process's time namespace, at the record
    uint64_t owners_offset;         // arena: struct ckpt_owner_query[]
    uint64_t owners_count;
    uint64_t policies_offset;       // arena: struct ckpt_policy_query[]
    uint64_t policies_count;
    uint32_t protection_keys;       // a bit per key that pkey_alloc(2) gave
    int32_t  memory_merge;          // PR_SET_MEMORY_MERGE
    uint32_t membarrier;            // membarrier(2): a bit per command by which it is registered
    uint8_t  future_locks;          // mlockall(2): enum ckpt_future_locks
    uint8_t  no_exec_gain;          // PR_SET_MDWE
    uint8_t  has_segments;          // modify_ldt(2): it has a table of its own
    uint8_t  confined;              // it, or whose child it is, has restricted itself by Landlock
    uint64_t terminals_offset, terminals_count;     // arena: struct ckpt_terminal_query[]
    uint64_t children_offset, children_count;       // arena: struct ckpt_child_query[]
    uint32_t home;                  // atomic, restart: tasks that have done all they do before the release
    uint32_t stop_signal;           // restart: what stops this process again then; 0: it is not stopped, or by SIGSTOP
    uint64_t asks_offset, asks_count;               // arena: struct ckpt_ask[]
    char     host[65], domain[65];  // uname(2)
    uint8_t  has_moved, pad7;       // a thread may be in another namespace than the main one
    uint32_t ipc_objects;           // System V segments, semaphore sets and queues in its ipc namespace
    uint64_t queues_offset, queues_count;           // arena: struct ckpt_posix_query[]
    uint32_t writers;               // how many write its memory, at most CKPT_MAX_WRITERS
    uint32_t hold;                  // atomic: not 0: a snapshot that has finished waits, since the initiator still looks at it
    // A delta: pages that are in its base at these places, by address (shared: by object and offset), each with the statefile that has it.
    uint64_t known_offset, shared_known_offset;     // arena: struct ckpt_run[]
    uint32_t known_count, shared_known_count;
    uint64_t pages_kept, pages_unread;      // atomic: that stay in the base; those of them that nobody had to read there
    uint32_t held, pad9;            // atomic: enum ckpt_held, what its leader has taken and not yet put back
    uint64_t spare[183];
};
_Static_assert(sizeof(struct ckpt_process) == 4096, "process slot");


// Who has made a call of which nothing shows that it has been made: tids or pids as they see themselves, behind the number of their pid namespace.
struct ckpt_noted { uint64_t ids[CKPT_SESSION_NOTED]; uint32_t more, pad; };     // atomic; 0: none; more: there was no room
// One System V object, and what tells it from a later one with its id.  A note outlives its object, which another process may remove.
struct ckpt_ipc_note { uint64_t object; uint32_t what, changed; };      // object: atomic; the number of the IPC namespace, 0: unknown, then 1 + id; 0: free
CKPT_INLINE uint64_t ckpt_note_of(uint32_t pids, int32_t id) { return (uint64_t)pids << 32 | (uint32_t)id; }

// How snapshots write to the statefile.
enum ckpt_file_use {
    CKPT_FILE_LOCKED = 0,       // one after another: write(2)
    CKPT_FILE_FREE = 1,         // by write(2), or through a mapping where another is at that; nobody is
    CKPT_FILE_TAKEN = 2,        // somebody is
};
struct ckpt_session {
    uint64_t magic;
    uint32_t abi_version, header_size;
    uint64_t size;
    char     id[24];                // sixteen hexadecimal digits
    char     name[64];
    char     command[256];          // the launched command line, for ckptctl list
    char     path[256];             // of the segment's file
    char     library[256];          // of libckpt.so, for LD_PRELOAD of children
    uint64_t created;               // CLOCK_REALTIME, ns
    uint64_t restored;              // CLOCK_REALTIME, ns; 0: launched by ckrun
    uint32_t uid;
    int32_t  launch_pid;
    uint32_t checkpoints;           // committed so far

    // The barrier, on cache lines of its own: by padding, since Swift does not import an over-aligned struct.
    uint8_t  pad1[52];
    uint32_t phase;        // futex word: generation << 8 | enum ckpt_phase
    uint8_t  pad2[60];
    uint32_t arrived;      // futex word: tasks (CALL, DRAIN_OTHERS, REQUEUE) or leaders that have completed the phase
    uint32_t expected;                                  // the initiator is woken when `arrived` reaches it
    uint8_t  pad3[56];
    uint64_t task_claims, process_claims;               // generation << 32 | slots given out
    uint32_t left;                                      // tasks that have left the handler's barrier
    uint32_t snapshots_done;                            // futex word: counts snapshots that finished or failed
    uint8_t  pad4[40];
    uint64_t arena_used;   // bytes claimed
    uint64_t file_tail;                                 // statefile: where the next chunk of runs goes
    struct ckpt_failure failure;
    // Held by the initiator for the whole operation: its tid; FUTEX_OWNER_DIED (bit 30) when the holder died, which the kernel knows by a list in the holder's own
    // memory (set_robust_list(2)).  Nothing here leads anybody anywhere.
    uint8_t  pad5[24];
    uint32_t lock, pad10[15];
    char     socket[64];            // abstract name without the leading NUL: where snapshots fetch the statefile's descriptor
    uint32_t kill_after;            // --kill: END follows the commit
    uint32_t has_subreaper;         // a member reaps orphans: exit waits for the snapshot
    uint64_t undo_offset;           // arena: struct ckpt_undo[]
    uint32_t undo_count;            // atomic: entries that are written
    uint32_t ask_keyrings;          // the tree's user has keys: each task says which are its own
    uint32_t namespaces[8];         // numbers of those that it was started in (enum ckpt_namespace_kind); 0: unknown
    uint32_t ipc_unseen;            // atomic: 1 << kind: members have asked for more System V IPC of a kind than there is room for
    uint32_t ipc_next;              // atomic: where a place is looked for when all are taken
    uint32_t loading;               // atomic, restart --lazy: not all of the memory is there
    uint32_t file_use;              // atomic: enum ckpt_file_use
    struct ckpt_noted dispatching;  // tasks that dispatch their system calls to themselves (PR_SET_SYSCALL_USER_DISPATCH), which would kill them in our handler
    struct ckpt_noted confined;     // processes that have restricted themselves by Landlock: what they execute is, too
    struct ckpt_noted emptied;      // sockets, by inode, with messages of no bytes that a checkpoint has looked at: the kernel shows those once
    uint64_t signals_next, signals_end;     // arena: where the next pending signal goes (atomic), in a block that the initiator has made
    // System V IPC that a member has asked for (semget(2) and its like), whoever uses it now; by enum ckpt_ipc_kind.
    struct ckpt_ipc_note ipc_notes[3][CKPT_SESSION_IPC];
    uint64_t arena_kept;            // after a restart: what the arena begins with is read by whoever arms its timers only when it is continued
};
enum {
    CKPT_SESSION_HEADER = 24576,
    CKPT_OFFSET_PROCESSES = CKPT_SESSION_HEADER,
    CKPT_OFFSET_TASKS = CKPT_OFFSET_PROCESSES + CKPT_MAX_PROCESSES * 4096,
    CKPT_OFFSET_ARENA = (CKPT_OFFSET_TASKS + CKPT_MAX_TASKS * 256 + 4095) & ~4095,
};
#define CKPT_SESSION_SIZE ((uint64_t)CKPT_OFFSET_ARENA + CKPT_ARENA_SIZE)
_Static_assert(sizeof(struct ckpt_session) <= CKPT_SESSION_HEADER, "session header");
_Static_assert(offsetof(struct ckpt_session, phase) == 960 && offsetof(struct ckpt_session, arrived) == 1024 &&
               offsetof(struct ckpt_session, task_claims) == 1088 && offsetof(struct ckpt_session, arena_used) == 1152 &&
               offsetof(struct ckpt_session, lock) == 1216, "each part of the barrier starts a cache line");

#define CKPT_RELEASE "0.1.0"
CKPT_INLINE const char *_Nonnull ckpt_release(void) { return CKPT_RELEASE; }
CKPT_INLINE uint64_t ckpt_session_size(void) { return CKPT_SESSION_SIZE; }
CKPT_INLINE uint64_t ckpt_session_magic(void) { return CKPT_SESSION_MAGIC; }
CKPT_INLINE uint64_t ckpt_arena_size(void) { return CKPT_ARENA_SIZE; }
CKPT_INLINE uint64_t ckpt_sigckpt_bit(void) { return CKPT_SIGCKPT_BIT; }
CKPT_INLINE uint32_t ckpt_process_index(struct ckpt_session *_Nonnull s, struct ckpt_process *_Nonnull p) {
    return (uint32_t)(p - (struct ckpt_process *)((char *)s + CKPT_OFFSET_PROCESSES));
}
CKPT_INLINE struct ckpt_process *_Nonnull ckpt_process_slot(struct ckpt_session *_Nonnull s, uint32_t i) {
    return (struct ckpt_process *)((char *)s + CKPT_OFFSET_PROCESSES) + i;
}
CKPT_INLINE struct ckpt_task *_Nonnull ckpt_task_slot(struct ckpt_session *_Nonnull s, uint32_t i) {
    return (struct ckpt_task *)((char *)s + CKPT_OFFSET_TASKS) + i;
}
CKPT_INLINE void *_Nonnull ckpt_arena(struct ckpt_session *_Nonnull s, uint64_t offset) { return (char *)s + CKPT_OFFSET_ARENA + offset; }
// The next slot, for a task that was called in `generation`; CKPT_TOO_LATE when that has ended and slots are given out for another: they are not its own.
enum { CKPT_TOO_LATE = 0x7fffffff };
CKPT_INLINE uint32_t ckpt_claim(uint64_t *_Nonnull claims, uint32_t generation) {
    for (;;) {
        uint64_t v = ckpt_load64(claims);
        if (v >> 32 != generation) return CKPT_TOO_LATE;
        if (ckpt_cas64(claims, v, v + 1)) return (uint32_t)v;
    }
}
CKPT_INLINE uint32_t ckpt_least(uint32_t a, uint32_t b) { return a < b ? a : b; }
// Slots that have been claimed; a claim beyond the last one got none.
CKPT_INLINE uint32_t ckpt_tasks_used(struct ckpt_session *_Nonnull s) { return ckpt_least((uint32_t)ckpt_load64(&s->task_claims), CKPT_MAX_TASKS); }
CKPT_INLINE uint32_t ckpt_processes_used(struct ckpt_session *_Nonnull s) { return ckpt_least((uint32_t)ckpt_load64(&s->process_claims), CKPT_MAX_PROCESSES); }
// Claims `size` bytes of the arena, 8-aligned; ~0 when it is full.
CKPT_INLINE uint64_t ckpt_arena_claim(struct ckpt_session *_Nonnull s, uint64_t size) {
    size = (size + 7) & ~7ull;
    uint64_t at = ckpt_add64(&s->arena_used, size);
    return size <= CKPT_ARENA_SIZE && at <= CKPT_ARENA_SIZE - size ? at : ~0ull;
}
// A place for one signal; ~0 when there are more than were expected.
CKPT_INLINE uint64_t ckpt_signal_claim(struct ckpt_session *_Nonnull s) {
    uint64_t size = sizeof(struct ckpt_pending), at = ckpt_add64(&s->signals_next, size), end = ckpt_load64(&s->signals_end);
    return end <= CKPT_ARENA_SIZE && size <= end && at <= end - size ? at : ~0ull;
}
CKPT_INLINE struct ckpt_undo *_Nonnull ckpt_undo_entry(struct ckpt_session *_Nonnull s, uint32_t i) {
    return (struct ckpt_undo *)ckpt_arena(s, s->undo_offset) + i;
}
CKPT_INLINE struct ckpt_undo_holder *_Nonnull ckpt_undo_holder(struct ckpt_undo *_Nonnull u, uint32_t i) { return &u->holders[i]; }
CKPT_INLINE uint8_t *_Nonnull ckpt_undo_value(struct ckpt_undo *_Nonnull u) { return u->value; }
CKPT_INLINE uint32_t *_Nonnull ckpt_phase_word(struct ckpt_session *_Nonnull s) { return &s->phase; }
CKPT_INLINE uint32_t *_Nonnull ckpt_arrived_word(struct ckpt_session *_Nonnull s) { return &s->arrived; }
enum { CKPT_LOCK_OWNER = 0x3fffffff, CKPT_LOCK_OWNER_DIED = 0x40000000 };
CKPT_INLINE uint32_t *_Nonnull ckpt_lock_word(struct ckpt_session *_Nonnull s) { return &s->lock; }
CKPT_INLINE struct ckpt_sigaction *_Nonnull ckpt_process_action(struct ckpt_process *_Nonnull p, int signal) { return &p->actions[signal - 1]; }
CKPT_INLINE struct ckpt_itimerval *_Nonnull ckpt_process_itimer(struct ckpt_process *_Nonnull p, int which) { return &p->itimers[which]; }
CKPT_INLINE char *_Nonnull ckpt_session_path(struct ckpt_session *_Nonnull s) { return s->path; }
CKPT_INLINE char *_Nonnull ckpt_session_library(struct ckpt_session *_Nonnull s) { return s->library; }
CKPT_INLINE char *_Nonnull ckpt_session_id(struct ckpt_session *_Nonnull s) { return s->id; }
CKPT_INLINE char *_Nonnull ckpt_session_name(struct ckpt_session *_Nonnull s) { return s->name; }
CKPT_INLINE char *_Nonnull ckpt_session_command(struct ckpt_session *_Nonnull s) { return s->command; }
CKPT_INLINE uint32_t *_Nonnull ckpt_session_namespaces(struct ckpt_session *_Nonnull s) { return s->namespaces; }
CKPT_INLINE char *_Nonnull ckpt_process_host(struct ckpt_process *_Nonnull p) { return p->host; }
CKPT_INLINE char *_Nonnull ckpt_process_domain(struct ckpt_process *_Nonnull p) { return p->domain; }
CKPT_INLINE char *_Nonnull ckpt_session_socket(struct ckpt_session *_Nonnull s) { return s->socket; }
// Records the first failure of the operation; later ones are dropped.
CKPT_INLINE void ckpt_fail(struct ckpt_session *_Nonnull s, uint32_t code, int errno_value, uint64_t detail) {
    static const uint32_t claimed = 0xffffffffu;
    if (!ckpt_cas(&s->failure.code, 0, claimed)) return;
    s->failure.errno_value = errno_value < 0 ? -errno_value : errno_value;
    s->failure.pid = ckpt_getpid(); s->failure.tid = ckpt_gettid(); s->failure.detail = detail;
    ckpt_store(&s->failure.code, code);
}
// Of a link in /proc/…/ns; 0: there is no /proc.
CKPT_INLINE uint32_t ckpt_namespace_number(const char *_Nonnull path) {
    enum { HERE = -100 };
    struct ckpt_stat s;
    return ckpt_syscall(CKPT_SYS_newfstatat, HERE, (long)path, (long)&s, 0, 0, 0) == 0 ? (uint32_t)s.inode : 0;
}
// What stays as it is while the object lives, whoever looks; 0 stands for unknown.  A segment loses its key when it is removed, a queue may get another capacity.
CKPT_INLINE uint32_t ckpt_ipc_what(uint32_t kind, uint32_t key, uint64_t size) { return kind == 1 ? (uint32_t)(size ^ size >> 32) | 1u << 31 : kind == 2 ? (key * 31 + (uint32_t)size) | 1 : key | 1; }
CKPT_INLINE uint64_t ckpt_ipc_object(uint32_t name_space, int32_t id) { return (uint64_t)name_space << 32 | ((uint32_t)id + 1); }
CKPT_INLINE struct ckpt_ipc_note *_Nonnull ckpt_ipc_notes(struct ckpt_session *_Nonnull s, uint32_t kind) { return s->ipc_notes[kind - 1]; }
// false: there is no room.  `changed`: when it was made, or changed by the session (shm_ctime, sem_ctime, msg_ctime).
CKPT_INLINE _Bool ckpt_note_ipc(struct ckpt_session *_Nonnull s, uint32_t kind, uint64_t object, uint32_t what, uint32_t changed) {
    struct ckpt_ipc_note *n = ckpt_ipc_notes(s, kind), *free = 0;
    for (int i = 0; i < CKPT_SESSION_IPC; i++) {
        uint64_t known = ckpt_load64(&n[i].object);
        if (known == 0 && !free) free = &n[i];
        if (known == object) { n[i].what = what; n[i].changed = changed; return 1; }
    }
    for (; free && free < n + CKPT_SESSION_IPC; free++) if (ckpt_cas64(&free->object, 0, object)) { free->what = what; free->changed = changed; return 1; }
    return 0;
}
enum ckpt_ipc_knowledge { CKPT_IPC_UNKNOWN = 0, CKPT_IPC_NOTED = 1, CKPT_IPC_CHANGED = 2 };      // CHANGED: by others, since; or they have made it anew
CKPT_INLINE enum ckpt_ipc_knowledge ckpt_ipc_noted(struct ckpt_session *_Nonnull s, uint32_t kind, uint64_t object, uint32_t what, uint32_t changed) {
    struct ckpt_ipc_note *n = ckpt_ipc_notes(s, kind);
    for (int i = 0; i < CKPT_SESSION_IPC; i++) {
        uint64_t known = ckpt_load64(&n[i].object);
        if (known != object && known != (uint32_t)object) continue;
        if (n[i].what == 0) return CKPT_IPC_NOTED;
        return n[i].what != what || changed < n[i].changed ? CKPT_IPC_UNKNOWN : changed > n[i].changed ? CKPT_IPC_CHANGED : CKPT_IPC_NOTED;
    }
    return CKPT_IPC_UNKNOWN;
}
CKPT_INLINE _Bool ckpt_asked_unseen(struct ckpt_session *_Nonnull s, uint32_t kind) { return __atomic_load_n(&s->ipc_unseen, __ATOMIC_RELAXED) & 1u << kind; }
CKPT_INLINE _Bool ckpt_asked_for_kind(struct ckpt_session *_Nonnull s, uint32_t kind) {
    for (int i = 0; i < CKPT_SESSION_IPC; i++) if (ckpt_load64(&ckpt_ipc_notes(s, kind)[i].object)) return 1;
    return ckpt_asked_unseen(s, kind);
}
CKPT_INLINE _Bool ckpt_asked_for_ipc(struct ckpt_session *_Nonnull s) { return ckpt_asked_for_kind(s, 1) || ckpt_asked_for_kind(s, 2) || ckpt_asked_for_kind(s, 3); }
CKPT_INLINE _Bool ckpt_is_noted(struct ckpt_noted *_Nonnull n, uint64_t id) {
    for (int i = 0; i < CKPT_SESSION_NOTED; i++) if (__atomic_load_n(&n->ids[i], __ATOMIC_RELAXED) == id) return 1;
    return 0;
}
CKPT_INLINE _Bool ckpt_any_noted(struct ckpt_noted *_Nonnull n) {
    for (int i = 0; i < CKPT_SESSION_NOTED; i++) if (__atomic_load_n(&n->ids[i], __ATOMIC_RELAXED)) return 1;
    return 0;
}
CKPT_INLINE void ckpt_forget_noted(struct ckpt_noted *_Nonnull n, uint64_t id) {
    for (int i = 0; i < CKPT_SESSION_NOTED; i++) { uint64_t known = id; __atomic_compare_exchange_n(&n->ids[i], &known, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED); }
}
CKPT_INLINE void ckpt_add_noted(struct ckpt_noted *_Nonnull n, uint64_t id) {
    if (ckpt_is_noted(n, id)) return;
    for (int i = 0; i < CKPT_SESSION_NOTED; i++) { uint64_t none = 0; if (__atomic_compare_exchange_n(&n->ids[i], &none, id, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return; }
    __atomic_store_n(&n->more, 1, __ATOMIC_RELAXED);
}
CKPT_INLINE struct ckpt_noted *_Nonnull ckpt_emptied(struct ckpt_session *_Nonnull s) { return &s->emptied; }
CKPT_INLINE struct ckpt_noted *_Nonnull ckpt_dispatching(struct ckpt_session *_Nonnull s) { return &s->dispatching; }
CKPT_INLINE struct ckpt_noted *_Nonnull ckpt_confined(struct ckpt_session *_Nonnull s) { return &s->confined; }
#endif

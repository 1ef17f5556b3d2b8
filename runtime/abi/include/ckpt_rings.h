// Rings: io_uring and the contexts of asynchronous I/O.  What the runtime notes when one is made (nothing shows it later), what a task finds out
// about its own in the handler, and a statefile's record.
#ifndef CKPT_RINGS_H
#define CKPT_RINGS_H
#include <stdint.h>

// struct io_uring_params
struct ckpt_ring_submissions { uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv; uint64_t user_address; };
struct ckpt_ring_completions { uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv; uint64_t user_address; };
struct ckpt_ring_parameters {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
    struct ckpt_ring_submissions sq;
    struct ckpt_ring_completions cq;
};
_Static_assert(sizeof(struct ckpt_ring_parameters) == 120, "io_uring_params");
enum ckpt_ring_setup {              // IORING_SETUP_*
    CKPT_RING_IOPOLL = 1, CKPT_RING_SQPOLL = 2, CKPT_RING_CQSIZE = 8, CKPT_RING_CLAMP = 16, CKPT_RING_ATTACH_WQ = 32, CKPT_RING_R_DISABLED = 64, CKPT_RING_SQE128 = 1 << 10,
    CKPT_RING_CQE32 = 1 << 11, CKPT_RING_SINGLE_ISSUER = 1 << 12, CKPT_RING_NO_MMAP = 1 << 14, CKPT_RING_REGISTERED_ONLY = 1 << 15, CKPT_RING_NO_SQARRAY = 1 << 16,
    CKPT_RING_KNOWN = (1 << 18) - 1,
};
enum ckpt_ring_operation {          // IORING_REGISTER_*
    CKPT_RING_EVENTFD = 4, CKPT_RING_NO_EVENTFD = 5, CKPT_RING_EVENTFD_ASYNC = 7, CKPT_RING_PERSONALITY = 9, CKPT_RING_RESTRICTIONS = 11, CKPT_RING_ENABLE = 12,
    CKPT_RING_FILES2 = 13, CKPT_RING_WORKERS_AFFINITY = 17, CKPT_RING_WORKERS = 19, CKPT_RING_DESCRIPTORS = 20, CKPT_RING_NO_DESCRIPTORS = 21, CKPT_RING_BUFFERS = 22, CKPT_RING_FILE_RANGE = 25,
    CKPT_RING_BUFFERS_STATUS = 26, CKPT_RING_NAPI = 27, CKPT_RING_CLOCK = 29, CKPT_RING_RECEIVE = 32, CKPT_RING_RESIZE = 33, CKPT_RING_REGION = 34,
};
enum { CKPT_RING_SUBMISSIONS_AT = 0, CKPT_RING_ENTRIES_AT = 0x10000000 };     // IORING_OFF_SQ_RING, _SQES

// One that was made by this process, through libc's syscall(2) or liburing.
enum ckpt_ring_found { CKPT_RING_PROBED = 1, CKPT_RING_HAS_EVENTFD = 2, CKPT_RING_HAS_BUFFERS = 4, CKPT_RING_FOREIGN = 8 };     // FOREIGN: another task may use it only
struct ckpt_ring_note {
    uint64_t inode;                 // 0: free; all bits: being written
    uint64_t thread;                // thread pointer of the task that made or enabled it
    int32_t  fd, pid;
    uint64_t registered;            // a bit per enum ckpt_ring_operation that has succeeded
    uint64_t event;                 // eventfd: 1 + its eventfd-id
    uint32_t pad;
    uint32_t found, generation;     // enum ckpt_ring_found, and in which checkpoint
    uint32_t searched;              // 1 + how many entries it had taken when it had no provided buffers; 0: it may have some since
    struct ckpt_ring_parameters parameters;
};
_Static_assert(sizeof(struct ckpt_ring_note) == 176, "ring_note");
// A context of asynchronous I/O (io_setup(2)).
struct ckpt_context_note { uint64_t context, submitted; };
// A ring that a task has registered (IORING_REGISTER_RING_FDS): it may name it by the index.
struct ckpt_ring_index { uint64_t thread, inode; uint32_t index, generation; };      // thread 0: free; generation: in which checkpoint it was found to be there
enum { CKPT_RING_NOTES = 64, CKPT_CONTEXT_NOTES = 64, CKPT_RING_INDEXES = 128 };
struct ckpt_ring_notes {
    uint32_t busy;                  // tasks that are inside a call which is noted afterwards
    uint32_t used;                  // something was noted
    struct ckpt_ring_note rings[CKPT_RING_NOTES];
    struct ckpt_context_note contexts[CKPT_CONTEXT_NOTES];
    struct ckpt_ring_index indexes[CKPT_RING_INDEXES];
    uint32_t indexes_lost, pad;     // there was no room for one
};

// Questions to a leader (struct ckpt_ask): its notes to the arena, the result is their address; a part of a ring (descriptor, offset) or of
// memory (−1, address), its size, to the arena.
enum { CKPT_ASK_RING_NOTES = -2, CKPT_ASK_RING = -3 };

// More than this, and a restart would take too long: it makes as many operations that do nothing.
enum { CKPT_RING_LIMIT = 1 << 28 };
enum ckpt_ring_flags { CKPT_RING_STILL_DISABLED = 1, CKPT_RING_EVENT_ASYNC = 2 };
struct ckpt_ring_record {
    uint32_t object, process;
    uint64_t thread;                // thread pointer of the only task that may use it; 0: any may
    uint64_t note;                  // where the runtime has its note in the process
    uint32_t flags;                 // enum ckpt_ring_flags
    uint32_t event;                 // DESCRIPTION of the eventfd that it tells, or CKPT_NO_INDEX
    uint32_t submitted, dropped;    // the kernel's count of entries taken, and of those with a wrong index
    uint32_t files, pad;            // slots of its table of files, all empty
    uint64_t rings, entries;        // contents of the two parts; 0: in the process's memory (IORING_SETUP_NO_MMAP)
    uint32_t rings_size, entries_size;
    uint64_t index_thread;          // thread pointer of the task that has registered it …
    uint32_t index, pad2;           // … as this
    uint64_t index_note;            // where the runtime has its note of that
    struct ckpt_ring_parameters parameters;
};
_Static_assert(sizeof(struct ckpt_ring_record) == 216, "ring_record");

static inline __attribute__((always_inline)) struct ckpt_ring_note *_Nonnull ckpt_ring_note(struct ckpt_ring_notes *_Nonnull n, int i) { return &n->rings[i]; }
static inline __attribute__((always_inline)) struct ckpt_ring_index *_Nonnull ckpt_ring_index(struct ckpt_ring_notes *_Nonnull n, int i) { return &n->indexes[i]; }
static inline __attribute__((always_inline)) struct ckpt_context_note *_Nonnull ckpt_context_note(struct ckpt_ring_notes *_Nonnull n, int i) { return &n->contexts[i]; }
#endif

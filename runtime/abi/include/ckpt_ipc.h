// System V IPC and POSIX message queues: what a parked leader is asked to do, the kernel's structures, and a statefile's records.
// A leader is in the tree's IPC namespace and has its rights; the initiator may have neither.
#ifndef CKPT_IPC_H
#define CKPT_IPC_H
#include <stdint.h>

// One system call that a leader makes for the initiator, in the phase ASK; only such as change nothing.
enum { CKPT_ASK_ADJUSTMENT = -1 };      // `number`: semadj of semaphore arguments[1] in set arguments[0], in this process
struct ckpt_ask {
    int64_t  number, result;
    int64_t  arguments[6];
    uint32_t relative, pad;         // a bit per argument that is an offset in the arena
};
_Static_assert(sizeof(struct ckpt_ask) == 72, "ask");

// struct ipc64_perm, shmid64_ds, semid64_ds, msqid64_ds
struct ckpt_ipc_permission { uint32_t key, uid, gid, cuid, cgid, mode; uint16_t sequence, pad[3]; uint64_t unused[2]; };
struct ckpt_segment_state { struct ckpt_ipc_permission permission; uint64_t size; int64_t attached, detached, changed; int32_t creator, last; uint64_t attachments, unused[2]; };
struct ckpt_semaphores_state { struct ckpt_ipc_permission permission; int64_t operated; uint64_t unused1; int64_t changed; uint64_t unused2, count, unused[2]; };
struct ckpt_queue_state { struct ckpt_ipc_permission permission; int64_t sent, received, changed; uint64_t bytes, messages, capacity; int32_t sender, receiver; uint64_t unused[2]; };
_Static_assert(sizeof(struct ckpt_ipc_permission) == 48 && sizeof(struct ckpt_segment_state) == 112, "shmid64_ds");
enum { CKPT_OFFSET_QUEUE_CAPACITY = 88 };
_Static_assert(__builtin_offsetof(struct ckpt_queue_state, capacity) == CKPT_OFFSET_QUEUE_CAPACITY, "msg_qbytes");
_Static_assert(sizeof(struct ckpt_semaphores_state) == 104 && sizeof(struct ckpt_queue_state) == 120, "semid64_ds, msqid64_ds");

struct ckpt_semaphore_operation { uint16_t number; int16_t change; int16_t flags; };     // struct sembuf
_Static_assert(sizeof(struct ckpt_semaphore_operation) == 6, "sembuf");
enum { CKPT_SEMAPHORE_LARGEST = 32767, CKPT_SEM_UNDO = 0x1000, CKPT_IPC_NOWAIT = 04000 };

enum ckpt_ipc_kind { CKPT_IPC_SEGMENT = 1, CKPT_IPC_SEMAPHORES = 2, CKPT_IPC_QUEUE = 3, CKPT_IPC_POSIX_QUEUE = 4 };
enum ckpt_ipc_flags {
    CKPT_IPC_OUTSIDE = 1,           // used outside the tree as well: never made, only attached to
    CKPT_IPC_LOOSE = 2,             // nothing says who uses it, but it may be the tree's: made where it is missing, and left alone where it is
    CKPT_IPC_REMOVED = 4,           // SHM_DEST: goes with its last attachment
    CKPT_IPC_LOCKED = 8,            // SHM_LOCK
};
// A POSIX message queue (mq_overview(7)): nothing shows its messages, so a leader takes them all and puts them back at once, while everybody stands
// still; and what its notification carries, by letting it come.
enum ckpt_notification { CKPT_NOTIFY_SIGNAL = 0, CKPT_NOTIFY_NONE = 1, CKPT_NOTIFY_THREAD = 2 };      // sigev_notify
struct ckpt_posix_query {
    int32_t  fd;                    // of this process
    uint32_t registered;            // by this process: 1 + enum ckpt_notification
    int32_t  signal;
    int32_t  error;                 // positive errno; 0: all was read and put back
    uint64_t value;                 // sigev_value
    uint64_t largest;               // mq_msgsize
    uint64_t messages, room, used;  // in the arena: struct ckpt_posix_message and its bytes, one after the other
};
_Static_assert(sizeof(struct ckpt_posix_query) == 56, "posix_query");
struct ckpt_posix_message { uint32_t size, priority; };     // then `size` bytes, padded to 8
struct ckpt_posix_attributes { int64_t flags, most, largest, count, unused[4]; };       // struct mq_attr
_Static_assert(sizeof(struct ckpt_posix_attributes) == 64, "mq_attr");

// Of a POSIX queue: size: mq_maxmsg; spare[0]: mq_msgsize; spare[1]: sigev_value; creator: index of the process to be notified, −1: none;
// last: sigev_signo; cuid: sigev_notify; type of its messages: their priority.
struct ckpt_ipc_record {
    uint32_t kind, flags;
    int32_t  id; uint32_t key;
    uint32_t mode, uid, gid, cuid, cgid;
    int32_t  creator, last;         // segment: who made it, -; queue: who sent and received last
    uint32_t object;                // segment: its OBJECT, whose pages are in the shared chains
    uint64_t size;                  // segment: bytes; semaphores: how many; queue: msg_qbytes
    uint32_t first, count;          // SEMAPHORE or QUEUED
    uint64_t name_space;            // inode of the IPC namespace …
    uint8_t  boot[16];              // … and the boot in which this id was its own
    uint32_t place, pids;           // 1 + NAMESPACE: of a part of the tree, in which it is; of the pids, whose first process makes it; 0: the tree's
    uint64_t spare[2];
};
_Static_assert(sizeof(struct ckpt_ipc_record) == 112, "ipc_record");

struct ckpt_semaphore_record { int32_t value, last; };      // last: sempid
_Static_assert(sizeof(struct ckpt_semaphore_record) == 8, "semaphore_record");

// What the end of a process would add to a semaphore.
struct ckpt_adjustment_record { uint32_t process, set, number; int32_t value; };     // set: IPC
_Static_assert(sizeof(struct ckpt_adjustment_record) == 16, "adjustment_record");

struct ckpt_queued_record { int64_t type; uint64_t size, content; };     // content: in the file
_Static_assert(sizeof(struct ckpt_queued_record) == 24, "queued_record");

static inline __attribute__((always_inline)) int64_t *_Nonnull ckpt_ask_argument(struct ckpt_ask *_Nonnull a, int i) { return &a->arguments[i]; }
static inline __attribute__((always_inline)) uint64_t *_Nonnull ckpt_ipc_spare(struct ckpt_ipc_record *_Nonnull r) { return r->spare; }
static inline __attribute__((always_inline)) uint8_t *_Nonnull ckpt_ipc_boot(struct ckpt_ipc_record *_Nonnull r) { return r->boot; }
#endif

// What Swift can't say, for the runtime: mutable state (Swift globals of these types would be initialised lazily), naked code, libc's weak symbols.
#ifndef PRELOAD_BOOT_H
#define PRELOAD_BOOT_H
#include "ckpt_syscall.h"
#include "ckpt_kernel.h"
#include "ckpt_session.h"
#include "ckpt_statefile.h"
#include "ckpt.h"

enum { CKPT_STACK_SIZE = 65536, CKPT_REGIONS = 512, CKPT_BASE_BUFFER = 65536, CKPT_STEADY_BUFFER = 65536 };

// This process's view of its session.  All zero in .bss until the constructor has run; inherited by fork.
struct ckpt_runtime {
    struct ckpt_session *_Nullable session;     // NULL: started outside a session
    uint32_t led;                   // atomic: the generation whose leader has been elected in this process
    uint32_t process;               // process slot of this process in that generation
    int32_t  snapshot_pid;          // a snapshot to reap; 0: none
    int32_t  snapshot_owner;        // the pid whose child it is: a forked child inherits this struct, not the snapshot
    uint32_t is_snapshot;           // this process is the snapshot
    int32_t  tracking;              // 1 + the userfaultfd that was made for the initiator and is open here; 0: none
    uint32_t is_confined;           // by Landlock
    uint32_t has_moved;             // a thread has gone to another namespace, or has tried
    uint32_t timers_run;            // after a restart: a futex; 1 once the leader has armed this process's timers
    ckpt_hook _Nullable hook;       // the application's, in this image
    void *_Nullable hook_argument;
    uint64_t rseq_offset_address;   // address of libc's __rseq_offset; 0: none
    uint64_t rseq_size_address, rseq_flags_address;
    uint64_t stack_owner;           // atomic: pid << 32 | tid of the task that is on the leader's stack; 0: nobody
};
// What one writer of memory needs beside its stack.
struct ckpt_workspace {
    uint8_t chunk[CKPT_CHUNK_SIZE];         // first, so that it lies at a page's beginning like the stack before it
    struct ckpt_page_region regions[CKPT_REGIONS];
    uint64_t pagemap[CKPT_REGIONS];
    uint8_t resident[65536];
    uint8_t base[CKPT_BASE_BUFFER];
    uint8_t steady[CKPT_STEADY_BUFFER];
};
// A further writer: a process that shares the memory which it writes.  In a mapping of its own, which is in nobody's list of ranges.
struct ckpt_writer {
    uint8_t stack[CKPT_STACK_SIZE];
    struct ckpt_workspace space;
    uint64_t first_chunk, chunk_offset;     // its chain of runs, whose last chunk is still in `space`
    uint64_t window;                        // address of its window in the statefile; 0: none
    uint32_t runs;
    int32_t pid;
    struct ckpt_crew *_Nullable crew;
};
// What the writers of one process share.  On the first one's stack.
struct ckpt_crew {
    uint64_t next;                  // atomic: the piece that nobody has taken
    struct ckpt_session *_Nonnull session;
    struct ckpt_process *_Nonnull process;
    struct ckpt_range *_Nonnull ranges;
    uint64_t range_count;
    int32_t statefile, pagemap;
    uint32_t is_shared, is_snapshot, is_stream;     // is_stream: `statefile` takes messages (Channel)
    uint32_t failed;                // 0, 1: being written, 2: written
    uint32_t code; int32_t error; uint64_t detail;
    uint64_t others, others_end;    // the other writers' memory, and windows: where a snapshot misses a mapping that was expected, it may lie in a range
    uint32_t generation, pad;       // of the checkpoint
};
// A call that goes on behind a checkpoint with what is left of it (InterposeContinue).  Its task has the address in rbx meanwhile.
struct ckpt_continued {
    uint32_t taken;                 // atomic: enum ckpt_continued_state
    int32_t  tid;
    uint64_t rip, count, number;    // where it returns to; what has been transferred; the call
    uint64_t rbx, r10, r8, r9;      // the application's
    uint64_t rsp;
    int32_t  pid, pad;
};
enum ckpt_continued_state { CKPT_CONTINUED_FREE = 0, CKPT_CONTINUED_ACTIVE = 1, CKPT_CONTINUED_CLAIMED = 2 };
enum { CKPT_CONTINUED_CALLS = 64 };
_Static_assert(offsetof(struct ckpt_continued, rip) == 8 && offsetof(struct ckpt_continued, count) == 16 && offsetof(struct ckpt_continued, rbx) == 32 &&
               offsetof(struct ckpt_continued, r9) == 56, "known to the instructions behind ckpt_went_on");
struct ckpt_buffers {
    // The leader leaves the application's stack for `leader_stack`; the snapshot runs on `writer_stack`, so that the frames in which the leader is
    // parked stay as they are in the memory that is being written.
    uint8_t leader_stack[CKPT_STACK_SIZE] __attribute__((aligned(64)));
    // From here on: the writer's own scratch memory.  It changes while it is written, and nobody needs it after: whole pages, left out.
    uint8_t writer_stack[CKPT_STACK_SIZE] __attribute__((aligned(4096)));
    struct ckpt_workspace space;
    int32_t bases[CKPT_MAX_BASES]; uint32_t base_count;     // the statefiles that a delta refers to, in the order of its table
    uint8_t end[0] __attribute__((aligned(4096)));
};
#pragma GCC visibility push(hidden)
extern struct ckpt_continued ckpt_continued_[CKPT_CONTINUED_CALLS];
uint64_t ckpt_went_on_address(void);
extern struct ckpt_runtime ckpt_runtime_;
extern struct ckpt_buffers ckpt_buffers_;
extern char __ehdr_start[], _end[];     // where this library lies (ld)
uint64_t ckpt_restorer_address(void);
uint64_t ckpt_handler_address(void);
// Calls fn(argument) on the stack that ends at `top`; returns its result.
uint32_t ckpt_call_on_stack(uint32_t (*_Nonnull fn)(void *_Nullable), void *_Nullable argument, void *_Nonnull top);
// Saves the callee-saved registers, writes where a restart goes on into the slot, and calls fn(argument).
// Returns fn's result (0), or 1 when the task has been restarted, or 2 when fn trapped.
uint32_t ckpt_park(struct ckpt_task *_Nonnull slot, uint32_t (*_Nonnull fn)(void *_Nullable), void *_Nullable argument);
// Goes back into the ckpt_park that filled the slot, with the result 2.
_Noreturn void ckpt_unpark_trapped(uint64_t rsp);
#pragma GCC visibility pop
CKPT_INLINE struct ckpt_runtime *_Nonnull ckpt_runtime(void) { return &ckpt_runtime_; }
CKPT_INLINE void *_Nonnull ckpt_leader_stack_top(void) { return ckpt_buffers_.leader_stack + CKPT_STACK_SIZE; }
CKPT_INLINE uint64_t ckpt_scratch_start(void) { return (uint64_t)ckpt_buffers_.writer_stack; }
CKPT_INLINE uint64_t ckpt_scratch_end(void) { return (uint64_t)(&ckpt_buffers_ + 1); }
CKPT_INLINE uint64_t ckpt_library_start(void) { return (uint64_t)__ehdr_start; }
CKPT_INLINE uint64_t ckpt_library_end(void) { return (uint64_t)_end; }
CKPT_INLINE void *_Nonnull ckpt_writer_stack_top(void) { return ckpt_buffers_.writer_stack + CKPT_STACK_SIZE; }
CKPT_INLINE struct ckpt_workspace *_Nonnull ckpt_own_workspace(void) { return &ckpt_buffers_.space; }
CKPT_INLINE uint8_t *_Nonnull ckpt_chunk_buffer(struct ckpt_workspace *_Nonnull w) { return w->chunk; }
CKPT_INLINE struct ckpt_page_region *_Nonnull ckpt_region_buffer(struct ckpt_workspace *_Nonnull w) { return w->regions; }
CKPT_INLINE uint64_t *_Nonnull ckpt_pagemap_buffer(struct ckpt_workspace *_Nonnull w) { return w->pagemap; }
CKPT_INLINE uint8_t *_Nonnull ckpt_resident_buffer(struct ckpt_workspace *_Nonnull w) { return w->resident; }
CKPT_INLINE uint8_t *_Nonnull ckpt_base_buffer(struct ckpt_workspace *_Nonnull w) { return w->base; }
CKPT_INLINE uint8_t *_Nonnull ckpt_steady_buffer(struct ckpt_workspace *_Nonnull w) { return w->steady; }
CKPT_INLINE int32_t *_Nonnull ckpt_base_file(uint32_t i) { return &ckpt_buffers_.bases[i]; }
CKPT_INLINE uint32_t *_Nonnull ckpt_base_count(void) { return &ckpt_buffers_.base_count; }
CKPT_INLINE struct ckpt_continued *_Nonnull ckpt_continued(int i) { return &ckpt_continued_[i]; }
CKPT_INLINE struct ckpt_workspace *_Nonnull ckpt_writer_workspace(struct ckpt_writer *_Nonnull w) { return &w->space; }
CKPT_INLINE uint32_t *_Nonnull ckpt_led_word(void) { return &ckpt_runtime_.led; }
CKPT_INLINE uint64_t *_Nonnull ckpt_stack_owner_word(void) { return &ckpt_runtime_.stack_owner; }
CKPT_INLINE uint32_t *_Nonnull ckpt_timers_word(void) { return &ckpt_runtime_.timers_run; }
#endif

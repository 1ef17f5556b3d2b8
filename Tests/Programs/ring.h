// io_uring by system calls alone, for programs that look at a ring's memory themselves.
#ifndef RING_H
#define RING_H
#include "scenario.h"
#include <linux/io_uring.h>
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#define IORING_SETUP_NO_MMAP (1U << 14)
#endif
struct ring {
    int fd;
    struct io_uring_params p;
    size_t size, entries_size;
    char *at, *entries;             // at: both rings
};
static unsigned *ring_word(struct ring *r, unsigned offset) { return (unsigned *)(r->at + offset); }
static unsigned ring_sq_head(struct ring *r) { return __atomic_load_n(ring_word(r, r->p.sq_off.head), __ATOMIC_ACQUIRE); }
static unsigned ring_sq_tail(struct ring *r) { return *ring_word(r, r->p.sq_off.tail); }
static unsigned ring_cq_head(struct ring *r) { return *ring_word(r, r->p.cq_off.head); }
static unsigned ring_cq_tail(struct ring *r) { return __atomic_load_n(ring_word(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE); }
static size_t ring_entry_size(struct ring *r) { return r->p.flags & IORING_SETUP_SQE128 ? 128 : 64; }
static size_t ring_completion_size(struct ring *r) { return r->p.flags & IORING_SETUP_CQE32 ? 32 : 16; }
static size_t ring_pages(size_t n) { return (n + 4095) & ~4095ul; }
static void ring_map(struct ring *r) {
    r->at = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
    r->entries = mmap(NULL, r->entries_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
    if (r->at == MAP_FAILED || r->entries == MAP_FAILED) { scenario_differs("mmap of a ring: %s", strerror(errno)); _exit(97); }
}
static int ring_try(struct ring *r, unsigned entries, unsigned flags, unsigned completions) {
    memset(r, 0, sizeof *r);
    r->p.flags = flags | (completions ? IORING_SETUP_CQSIZE : 0); r->p.cq_entries = completions;
    if (flags & IORING_SETUP_NO_MMAP) {
        r->at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); r->entries = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ((uint64_t *)&r->p.cq_off)[4] = (uintptr_t)r->at; ((uint64_t *)&r->p.sq_off)[4] = (uintptr_t)r->entries;
    }
    r->fd = syscall(SYS_io_uring_setup, entries, &r->p);
    if (r->fd < 0) return -1;
    size_t array = flags & IORING_SETUP_NO_SQARRAY ? 0 : r->p.sq_off.array + r->p.sq_entries * 4, all = r->p.cq_off.cqes + r->p.cq_entries * ring_completion_size(r);
    r->size = ring_pages(all > array ? all : array); r->entries_size = ring_pages(r->p.sq_entries * ring_entry_size(r));
    if (!(flags & IORING_SETUP_NO_MMAP)) ring_map(r);
    return 0;
}
static void ring_make(struct ring *r, unsigned entries, unsigned flags, unsigned completions) { must(ring_try(r, entries, flags, completions)); }
// The next entry, cleared; it is handed over by ring_enter.
static struct io_uring_sqe *ring_entry(struct ring *r) {
    unsigned tail = ring_sq_tail(r), slot = tail & (r->p.sq_entries - 1);
    struct io_uring_sqe *e = (struct io_uring_sqe *)(r->entries + slot * ring_entry_size(r));
    memset(e, 0, ring_entry_size(r));
    if (!(r->p.flags & IORING_SETUP_NO_SQARRAY)) ring_word(r, r->p.sq_off.array)[slot] = slot;
    __atomic_store_n(ring_word(r, r->p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    return e;
}
static long ring_enter(struct ring *r, unsigned submit, unsigned wait) { return syscall(SYS_io_uring_enter, r->fd, submit, wait, wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0); }
static struct io_uring_cqe *ring_completion(struct ring *r, unsigned nth) {
    return (struct io_uring_cqe *)(r->at + r->p.cq_off.cqes + (nth & (r->p.cq_entries - 1)) * ring_completion_size(r));
}
static void ring_expect(struct ring *r, uint64_t data, int result) {
    if (ring_cq_head(r) == ring_cq_tail(r)) ring_enter(r, 0, 1);
    check(ring_cq_head(r) != ring_cq_tail(r));
    struct io_uring_cqe *c = ring_completion(r, ring_cq_head(r));
    same(data, c->user_data); same(result, c->res); same(0, c->flags);
    __atomic_store_n(ring_word(r, r->p.cq_off.head), ring_cq_head(r) + 1, __ATOMIC_RELEASE);
}
static void ring_nop(struct ring *r, uint64_t data) { struct io_uring_sqe *e = ring_entry(r); e->opcode = IORING_OP_NOP; e->user_data = data; same(1, ring_enter(r, 1, 0)); }
static void ring_nops(struct ring *r, unsigned count) {     // all at once where they fit, and taken
    while (count) {
        unsigned n = count < r->p.sq_entries ? count : r->p.sq_entries;
        for (unsigned i = 0; i < n; i++) ring_entry(r)->opcode = IORING_OP_NOP;
        if (ring_enter(r, n, 0) != n) { scenario_differs("nops: %s", strerror(errno)); return; }
        *ring_word(r, r->p.cq_off.head) = ring_cq_tail(r);
        count -= n;
    }
}
// Reads `size` bytes of a file.
static void ring_read(struct ring *r, int file, void *to, unsigned size, uint64_t data) {
    struct io_uring_sqe *e = ring_entry(r);
    e->opcode = IORING_OP_READ; e->fd = file; e->addr = (uintptr_t)to; e->len = size; e->off = 0; e->user_data = data;
    same(1, ring_enter(r, 1, 1));
}
#endif

// Runs inside applications, on the caller's stack: no libc, no lock, no allocation.
// Rings are noted when they are made: /proc shows neither the flags of io_uring_setup(2) nor what was registered with it, and nothing shows
// what is in flight on a context of asynchronous I/O, but that can be counted.
#include "interpose.h"
#include "preload_boot.h"
#include "ckpt_rings.h"

#define EXPORT __attribute__((visibility("default")))
#define HIDDEN __attribute__((visibility("hidden")))
extern uint64_t interpose_real(int entry);
extern int interpose_fail(int code);

static struct ckpt_ring_notes notes;
HIDDEN struct ckpt_ring_notes *interpose_ring_notes(void) { return &notes; }

enum { BEING_WRITTEN = -1, USE_REGISTERED = (int)0x80000000 };
static void begin(void) { __atomic_store_n(&notes.used, 1, __ATOMIC_RELAXED); __atomic_add_fetch(&notes.busy, 1, __ATOMIC_ACQ_REL); }
static void end(void) { __atomic_sub_fetch(&notes.busy, 1, __ATOMIC_ACQ_REL); }
static uint64_t thread(void) { uint64_t t; __asm__("movq %%fs:0, %0" : "=r"(t)); return t; }

static uint64_t inode_of(int fd) {
    uint64_t status[18];            // struct stat: st_ino is its second word
    return ckpt_syscall(CKPT_SYS_fstat, fd, (long)status, 0, 0, 0, 0) == 0 ? status[1] : 0;
}

static void note_ring(int fd, const struct ckpt_ring_parameters *p) {
    uint64_t inode = inode_of(fd);
    for (int i = 0; inode && i < CKPT_RING_NOTES; i++) {
        struct ckpt_ring_note *n = &notes.rings[i];
        uint64_t old = __atomic_load_n(&n->inode, __ATOMIC_ACQUIRE);
        // A note is free when its ring has been closed.
        if (old == (uint64_t)BEING_WRITTEN || (old && inode_of(n->fd) == old)) continue;
        if (!__atomic_compare_exchange_n(&n->inode, &old, (uint64_t)BEING_WRITTEN, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) continue;
        n->thread = thread(); n->fd = fd; n->pid = ckpt_getpid();
        n->registered = 0; n->event = 0; n->found = 0; n->generation = 0; n->searched = 0;
        n->parameters = *p;
        __atomic_store_n(&n->inode, inode, __ATOMIC_RELEASE);
        return;
    }
}

// "eventfd-id:" of its fdinfo, which tells it from any other as long as the ring has it; 0: no eventfd.
static uint64_t event_of(int fd) {
    static const char folder[] = "/proc/thread-self/fdinfo/", key[] = "eventfd-id:";
    char text[512], digits[12];
    int at = sizeof folder - 1, n = 0;
    __builtin_memcpy(text, folder, at);
    if (fd < 0) return 0;
    do digits[n++] = (char)('0' + fd % 10); while ((fd /= 10));
    while (n) text[at++] = digits[--n];
    text[at] = 0;
    long file = ckpt_open(text, 02000000, 0);
    if (file < 0) return 0;
    long size = ckpt_read((int)file, text, sizeof text);
    ckpt_close((int)file);
    for (long i = 0; i + (long)sizeof key < size; i++) {
        if (__builtin_memcmp(text + i, key, sizeof key - 1)) continue;
        uint64_t id = 0;
        for (i += sizeof key - 1; i < size && (text[i] == ' ' || text[i] == '\t'); i++) {}
        for (; i < size && text[i] >= '0' && text[i] <= '9'; i++) id = id * 10 + (uint64_t)(text[i] - '0');
        return 1 + id;
    }
    return 0;
}

// What the calling task may name `inode` by from now on; 0: nothing.
static void note_index(uint32_t index, uint64_t inode) {
    uint64_t own = thread();
    struct ckpt_ring_index *room = 0;
    for (int i = 0; i < CKPT_RING_INDEXES; i++) {
        struct ckpt_ring_index *n = &notes.indexes[i];
        if (n->thread == own && n->index == index) { room = n; break; }
        uint64_t none = 0;
        if (!room && inode && __atomic_compare_exchange_n(&n->thread, &none, (uint64_t)BEING_WRITTEN, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) room = n;
    }
    if (!room) { if (inode) notes.indexes_lost = 1; return; }
    room->inode = inode; room->index = index; room->generation = 0;
    __atomic_store_n(&room->thread, inode ? own : 0, __ATOMIC_RELEASE);
}
struct update { uint32_t offset, resv; uint64_t data; };

static void apply(struct ckpt_ring_note *n, unsigned operation, int eventfd) {
    n->registered |= 1ull << (operation & 63);
    n->searched = 0;
    switch (operation) {
    case CKPT_RING_EVENTFD: case CKPT_RING_EVENTFD_ASYNC:
        n->event = event_of(eventfd);
        n->registered &= ~(1ull << (operation == CKPT_RING_EVENTFD ? CKPT_RING_EVENTFD_ASYNC : CKPT_RING_EVENTFD));
        break;
    case CKPT_RING_NO_EVENTFD: n->event = 0; break;
    case CKPT_RING_ENABLE: n->thread = thread(); break;
    }
}
// A ring that is named by a registered index may be any of them.
static void note_registered(int fd, unsigned operation, int eventfd) {
    uint64_t inode = fd < 0 ? 0 : inode_of(fd);
    for (int i = 0; i < CKPT_RING_NOTES; i++) {
        uint64_t its = __atomic_load_n(&notes.rings[i].inode, __ATOMIC_ACQUIRE);
        if (its && its != (uint64_t)BEING_WRITTEN && (fd < 0 || its == inode)) apply(&notes.rings[i], operation, eventfd);
    }
}
static long registered(int fd, unsigned operation, const void *argument, long result) {
    if (result < 0) return result;
    unsigned plain = operation & ~(unsigned)USE_REGISTERED;
    int eventfd = plain == CKPT_RING_EVENTFD || plain == CKPT_RING_EVENTFD_ASYNC ? *(const int *)argument : -1;
    const struct update *u = argument;
    for (long i = 0; i < result && plain == CKPT_RING_DESCRIPTORS; i++) note_index(u[i].offset, inode_of((int)u[i].data));
    for (long i = 0; i < result && plain == CKPT_RING_NO_DESCRIPTORS; i++) note_index(u[i].offset, 0);
    note_registered(operation & (unsigned)USE_REGISTERED ? -1 : fd, plain, eventfd);
    return result;
}

// From syscall(3): they answer as it does.
enum { NR_io_uring_setup = 425, NR_io_uring_register = 427, NR_io_submit = 209 };
static long answer(long result) { return result < 0 ? interpose_fail((int)-result) : result; }
HIDDEN long interpose_ring_setup(long entries, struct ckpt_ring_parameters *p) {
    begin();
    long fd = ckpt_syscall(NR_io_uring_setup, entries, (long)p, 0, 0, 0, 0);
    if (fd >= 0) note_ring((int)fd, p);
    end();
    return answer(fd);
}
// A checkpoint that interrupts it reads the number beside the instruction, and enters it again (InterposeRevise.swift).
HIDDEN long interpose_ring_enter(long fd, long count, long least, long flags, long argument, long size) {
    long r;
    register long r10 __asm__("r10") = flags, r8 __asm__("r8") = argument, r9 __asm__("r9") = size;
    __asm__ volatile("movl $426, %%eax\n\tsyscall" : "=&a"(r) : "D"(fd), "S"(count), "d"(least), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return answer(r);
}
HIDDEN long interpose_ring_register(long fd, long operation, void *argument, long count) {
    begin();
    long r = registered((int)fd, (unsigned)operation, argument, ckpt_syscall(NR_io_uring_register, fd, operation, (long)argument, count, 0, 0));
    end();
    return answer(r);
}

static void note_context(uint64_t context) {
    static uint32_t next;
    struct ckpt_context_note *n = 0;
    for (int i = 0; i < CKPT_CONTEXT_NOTES; i++) if (notes.contexts[i].context == context) n = &notes.contexts[i];
    // The oldest is forgotten: it will be refused.
    if (!n) n = &notes.contexts[__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % CKPT_CONTEXT_NOTES];
    n->submitted = 0;
    n->context = context;
}
static long setup(long events, uint64_t *context) {
    begin();
    long r = ckpt_syscall(CKPT_SYS_io_setup, events, (long)context, 0, 0, 0, 0);
    if (r == 0) note_context(*context);
    end();
    return r;
}
static long submit(uint64_t context, long count, void *blocks) {
    begin();
    long r = ckpt_syscall(NR_io_submit, (long)context, count, (long)blocks, 0, 0, 0);
    for (int i = 0; r > 0 && i < CKPT_CONTEXT_NOTES; i++)
        if (notes.contexts[i].context == context) __atomic_add_fetch(&notes.contexts[i].submitted, (uint64_t)r, __ATOMIC_RELAXED);
    end();
    return r;
}
HIDDEN long interpose_context_setup(long events, uint64_t *context) { return answer(setup(events, context)); }
HIDDEN long interpose_context_submit(uint64_t context, long count, void *blocks) { return answer(submit(context, count, blocks)); }
// libaio's, which makes the calls itself and returns the error.
EXPORT int io_setup(int count, void **context) { return (int)setup(count, (uint64_t *)context); }
EXPORT int io_submit(void *context, long count, void **blocks) { return (int)submit((uint64_t)context, count, blocks); }

// liburing makes its system calls itself.  The descriptor of its struct io_uring is at this offset in every version since 2.0.
enum { DESCRIPTOR_AT = 196, INDEX_AT = 204, ENOSYS_ = 38 };
static int descriptor_of(const void *ring) { int fd; __builtin_memcpy(&fd, (const char *)ring + DESCRIPTOR_AT, sizeof fd); return fd; }
typedef long (*six)(long, long, long, long, long, long);
#define REAL(name) ((six)interpose_real(INTERPOSE_##name))
EXPORT int io_uring_queue_init_params(unsigned entries, void *ring, struct ckpt_ring_parameters *p) {
    six real = REAL(io_uring_queue_init_params);
    if (!real) return -ENOSYS_;
    begin();
    int r = (int)real(entries, (long)ring, (long)p, 0, 0, 0);
    if (r >= 0) note_ring(descriptor_of(ring), p);
    end();
    return r;
}
// What liburing's does as well; there it would not come by here.
EXPORT int io_uring_queue_init(unsigned entries, void *ring, unsigned flags) {
    struct ckpt_ring_parameters p = { .flags = flags };
    return io_uring_queue_init_params(entries, ring, &p);
}
EXPORT int io_uring_queue_init_mem(unsigned entries, void *ring, struct ckpt_ring_parameters *p, void *memory, size_t size) {
    six real = REAL(io_uring_queue_init_mem);
    if (!real) return -ENOSYS_;
    begin();
    int r = (int)real(entries, (long)ring, (long)p, (long)memory, (long)size, 0);
    if (r >= 0) note_ring(descriptor_of(ring), p);
    end();
    return r;
}
// A program's own function of this name may do whatever it likes to errno: only its result is looked at.
EXPORT int io_uring_setup(unsigned entries, struct ckpt_ring_parameters *p) {
    six real = REAL(io_uring_setup);
    if (!real) return -ENOSYS_;
    begin();
    int fd = (int)real(entries, (long)p, 0, 0, 0, 0);
    if (fd >= 0) note_ring(fd, p);
    end();
    return fd;
}
EXPORT int io_uring_register(unsigned fd, unsigned operation, const void *argument, unsigned count) {
    six real = REAL(io_uring_register);
    if (!real) return -ENOSYS_;
    begin();
    int r = (int)registered((int)fd, operation, argument, (int)real(fd, operation, (long)argument, count, 0, 0));
    end();
    return r;
}
#define REGISTERS(name, operation, eventfd) \
    EXPORT int name(void *ring, long a, long b, long c) { \
        six real = REAL(name); \
        if (!real) return -ENOSYS_; \
        begin(); \
        int fd = descriptor_of(ring), r = (int)real((long)ring, a, b, c, 0, 0); \
        if (r >= 0) note_registered(fd, operation, eventfd); \
        end(); \
        return r; \
    }
REGISTERS(io_uring_register_eventfd, CKPT_RING_EVENTFD, (int)a)
REGISTERS(io_uring_register_eventfd_async, CKPT_RING_EVENTFD_ASYNC, (int)a)
REGISTERS(io_uring_unregister_eventfd, CKPT_RING_NO_EVENTFD, -1)
REGISTERS(io_uring_register_personality, CKPT_RING_PERSONALITY, -1)
REGISTERS(io_uring_register_restrictions, CKPT_RING_RESTRICTIONS, -1)
REGISTERS(io_uring_enable_rings, CKPT_RING_ENABLE, -1)
REGISTERS(io_uring_register_iowq_aff, CKPT_RING_WORKERS_AFFINITY, -1)
REGISTERS(io_uring_register_iowq_max_workers, CKPT_RING_WORKERS, -1)
REGISTERS(io_uring_register_buf_ring, CKPT_RING_BUFFERS, -1)
REGISTERS(io_uring_register_file_alloc_range, CKPT_RING_FILE_RANGE, -1)
REGISTERS(io_uring_register_clock, CKPT_RING_CLOCK, -1)
REGISTERS(io_uring_register_ifq, CKPT_RING_RECEIVE, -1)
REGISTERS(io_uring_resize_rings, CKPT_RING_RESIZE, -1)
REGISTERS(io_uring_register_region, CKPT_RING_REGION, -1)
EXPORT void *io_uring_setup_buf_ring(void *ring, unsigned entries, int group, unsigned flags, int *error) {
    six real = REAL(io_uring_setup_buf_ring);
    if (!real) { *error = -ENOSYS_; return 0; }
    begin();
    int fd = descriptor_of(ring);
    void *buffers = (void *)real((long)ring, entries, group, flags, (long)error, 0);
    if (buffers) note_registered(fd, CKPT_RING_BUFFERS, -1);
    end();
    return buffers;
}
// The index is beside the descriptor.
static uint32_t index_of(const void *ring) { uint32_t i; __builtin_memcpy(&i, (const char *)ring + INDEX_AT, sizeof i); return i; }
EXPORT int io_uring_register_ring_fd(void *ring) {
    six real = REAL(io_uring_register_ring_fd);
    if (!real) return -ENOSYS_;
    begin();
    int r = (int)real((long)ring, 0, 0, 0, 0, 0);
    if (r == 1) note_index(index_of(ring), inode_of(descriptor_of(ring)));
    end();
    return r;
}
EXPORT int io_uring_unregister_ring_fd(void *ring) {
    six real = REAL(io_uring_unregister_ring_fd);
    if (!real) return -ENOSYS_;
    begin();
    uint32_t index = index_of(ring);
    int r = (int)real((long)ring, 0, 0, 0, 0, 0);
    if (r == 1) note_index(index, 0);
    end();
    return r;
}

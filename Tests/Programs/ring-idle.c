// Idle io_urings of every make: counts, unread completions, entries not handed over, mappings, dropped entries and duplicates come back, and they go on.
#include "ring.h"
static const unsigned makes[] = { 0, IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN, IORING_SETUP_SQE128 | IORING_SETUP_CQE32, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_CLAMP, IORING_SETUP_NO_SQARRAY, IORING_SETUP_NO_MMAP, IORING_SETUP_NO_MMAP | IORING_SETUP_NO_SQARRAY | IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_IOPOLL };
enum { MAKES = sizeof makes / sizeof *makes, ENTRIES = 8 };
static struct ring rings[MAKES];
static unsigned used(int i) { return i * 37; }
static void use(struct ring *r, int i, int file) {
    char text[8] = "";
    if (makes[i] & IORING_SETUP_IOPOLL) { ring_nop(r, 5); ring_expect(r, 5, 0); return; }
    ring_read(r, file, text, 8, 7000 + i); ring_expect(r, 7000 + i, 8); check(!memcmp(text, "contents", 8));
    for (int k = 0; k < 40; k++) { ring_nop(r, k); ring_expect(r, k, 0); }
}
int main(void) {
    int file = must(open(scenario_path("file"), O_CREAT | O_RDWR, 0600)), there[MAKES];
    must(write(file, "contents", 8));
    for (int i = 0; i < MAKES; i++) {
        there[i] = ring_try(&rings[i], ENTRIES, makes[i], i == 1 ? 64 : 0) == 0;
        if (!there[i]) { if (makes[i] < IORING_SETUP_NO_MMAP) scenario_differs("make %x: %s", makes[i], strerror(errno)); continue; }
        ring_nops(&rings[i], used(i));
        for (int k = 0; k < i % 5; k++) ring_nop(&rings[i], 100 * i + k);        // stay unread
    }
    struct ring *plain = &rings[0], *unmapped = &rings[4];
    int copy = must(fcntl(plain->fd, F_DUPFD, 100));
    must(fcntl(plain->fd, F_SETFD, 0));
    // An entry with a wrong index is dropped; one that is ready has not been handed over.
    ring_entry(plain); ring_word(plain, plain->p.sq_off.array)[(ring_sq_tail(plain) - 1) & (ENTRIES - 1)] = 99; ring_enter(plain, 1, 0);
    same(1, *ring_word(plain, plain->p.sq_off.dropped));
    struct io_uring_sqe *ready = ring_entry(plain); ready->opcode = IORING_OP_NOP; ready->user_data = 4711;
    must(munmap(unmapped->entries, unmapped->entries_size)); unmapped->entries = NULL;
    must(mprotect(rings[1].entries, rings[1].entries_size, PROT_READ)); must(madvise(rings[1].at, rings[1].size, MADV_DONTFORK));
    static struct ring before[MAKES]; static char bytes[MAKES][16384];
    memcpy(before, rings, sizeof rings);
    for (int i = 0; i < MAKES; i++) if (there[i]) memcpy(bytes[i], rings[i].at, rings[i].size);
    scenario_wait();
    for (int i = 0; i < MAKES; i++) if (there[i]) check(!memcmp(bytes[i], rings[i].at, rings[i].size));
    same(FD_CLOEXEC, fcntl(rings[1].fd, F_GETFD)); same(0, fcntl(plain->fd, F_GETFD)); same(O_RDWR, fcntl(plain->fd, F_GETFL) & O_ACCMODE);
    same(1, ring_enter(plain, 1, 0));
    must(mprotect(rings[1].entries, rings[1].entries_size, PROT_READ | PROT_WRITE));
    unmapped->entries = mmap(NULL, unmapped->entries_size, PROT_READ | PROT_WRITE, MAP_SHARED, unmapped->fd, IORING_OFF_SQES); check(unmapped->entries != MAP_FAILED);
    for (int i = 0; i < MAKES; i++) {
        struct ring *r = &rings[i];
        if (!there[i]) continue;
        same(used(i) + i % 5 + 2 * (i == 0), ring_sq_head(r)); same(used(i) + i % 5 + (i == 0), ring_cq_tail(r)); same(used(i), ring_cq_head(r));
        for (int k = 0; k < i % 5; k++) ring_expect(r, 100 * i + k, 0);
        if (i == 0) ring_expect(r, 4711, 0);
        if (r->p.flags & IORING_SETUP_NO_MMAP) check(mmap(NULL, 4096, PROT_READ, MAP_SHARED, r->fd, IORING_OFF_SQ_RING) == MAP_FAILED);
        use(r, i, file);
    }
    // The duplicate is the same ring.
    plain->fd = copy; use(plain, 0, file);
    // A single issuer's is still that: nobody else may use it.
    pid_t child = fork();
    if (child == 0) { ring_entry(&rings[3]); check(ring_enter(&rings[3], 1, 0) == -1 && errno == EEXIST); scenario_leave(3); }
    scenario_child(child, 3);
    return scenario_end();
}

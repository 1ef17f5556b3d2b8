// A ring for each of several threads, which alone may use it, and has registered it; one that is not enabled yet; and the kernel's own threads of a ring are nobody's tasks.
#include "ring.h"
enum { THREADS = 3 };
static struct ring rings[THREADS];
static pthread_barrier_t made, go;
static void *run(void *which) {
    struct ring *r = &rings[(long)which];
    ring_make(r, 16, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0);
    ring_nops(r, 500 + 10 * (long)which); ring_nop(r, 1);
    struct { unsigned offset, resv; uint64_t data; } index = { 3 + (unsigned)(long)which, 0, r->fd };
    same(1, syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_RING_FDS, &index, 1));
    pthread_barrier_wait(&made); pthread_barrier_wait(&go);
    same(501 + 10 * (long)which, ring_sq_head(r)); ring_expect(r, 1, 0);
    ring_nops(r, 50); ring_nop(r, 2); ring_expect(r, 2, 0);
    ring_entry(r)->user_data = 3; same(1, syscall(SYS_io_uring_enter, index.offset, 1, 0, IORING_ENTER_REGISTERED_RING, NULL, 0)); ring_expect(r, 3, 0);
    check(syscall(SYS_io_uring_enter, index.offset + 1, 0, 0, IORING_ENTER_REGISTERED_RING, NULL, 0) == -1 && errno == EBADF);
    return NULL;
}
int main(void) {
    pthread_t t[THREADS];
    pthread_barrier_init(&made, NULL, THREADS + 1); pthread_barrier_init(&go, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) must0(pthread_create(&t[i], NULL, run, (void *)i));
    struct ring disabled, working;
    ring_make(&disabled, 4, IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER, 0); ring_make(&working, 4, 0, 0);
    int file = must(open(scenario_path("file"), O_CREAT | O_RDWR, 0600)); char text[8] = "";
    must(write(file, "contents", 8));
    struct io_uring_sqe *s = ring_entry(&working);
    s->opcode = IORING_OP_READ; s->flags = IOSQE_ASYNC; s->fd = file; s->addr = (uintptr_t)text; s->len = 8; s->user_data = 6;
    same(1, ring_enter(&working, 1, 1)); ring_expect(&working, 6, 8);
    pthread_barrier_wait(&made);
    scenario_wait();
    pthread_barrier_wait(&go);
    for (int i = 0; i < THREADS; i++) must0(pthread_join(t[i], NULL));
    ring_entry(&disabled); check(ring_enter(&disabled, 1, 0) == -1 && errno == EBADFD);
    must(syscall(SYS_io_uring_register, disabled.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0));
    same(1, ring_enter(&disabled, 1, 0)); ring_expect(&disabled, 0, 0);
    s = ring_entry(&working); s->opcode = IORING_OP_READ; s->flags = IOSQE_ASYNC; s->fd = file; s->addr = (uintptr_t)text; s->len = 8; s->user_data = 8;
    same(1, ring_enter(&working, 1, 1)); ring_expect(&working, 8, 8);
    return scenario_end();
}

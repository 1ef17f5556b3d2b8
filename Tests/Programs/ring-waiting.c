// Two threads wait for completions, one through libc's syscall(2) and one through liburing: a checkpoint that is refused meanwhile is nothing that they see.
#include "ring.h"
#include <liburing.h>
static int pipes[2][2];
static char got[2];
static void *raw(void *none) {
    struct ring r; ring_make(&r, 4, IORING_SETUP_SINGLE_ISSUER, 0);
    struct io_uring_sqe *e = ring_entry(&r);
    e->opcode = IORING_OP_READ; e->fd = pipes[0][0]; e->addr = (uintptr_t)&got[0]; e->len = 1; e->off = -1; e->user_data = 5;
    same(1, ring_enter(&r, 1, 0));
    scenario_touch("raw");
    long n = ring_enter(&r, 0, 1);
    if (n != 0) scenario_differs("io_uring_enter: %ld %s", n, strerror(errno));
    ring_expect(&r, 5, 1); check(got[0] == 'a');
    return none;
}
static void *library(void *none) {
    struct io_uring r; must0(-io_uring_queue_init(4, &r, 0));
    io_uring_prep_read(io_uring_get_sqe(&r), pipes[1][0], &got[1], 1, -1);
    same(1, io_uring_submit(&r));
    scenario_touch("library");
    struct io_uring_cqe *c;
    int n = io_uring_wait_cqe(&r, &c);
    if (n) scenario_differs("io_uring_wait_cqe: %s", strerror(-n)); else { same(1, c->res); check(got[1] == 'b'); }
    return none;
}
int main(void) {
    pthread_t t[2];
    must(pipe(pipes[0])); must(pipe(pipes[1]));
    must0(pthread_create(&t[0], NULL, raw, NULL)); must0(pthread_create(&t[1], NULL, library, NULL));
    scenario_await("raw"); scenario_await("library"); usleep(100000);
    scenario_wait();
    must(write(pipes[0][1], "a", 1)); must(write(pipes[1][1], "b", 1));
    for (int i = 0; i < 2; i++) must0(pthread_join(t[i], NULL));
    return scenario_end();
}

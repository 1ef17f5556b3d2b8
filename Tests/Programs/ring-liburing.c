// liburing, which makes its system calls itself: reads and writes through a ring with an eventfd, before and after.
#include "scenario.h"
#include <liburing.h>
#include <sys/eventfd.h>
static int file, event;
static uint64_t told(void) { uint64_t n = 0; return read(event, &n, 8) == 8 ? n : 0; }
static void round_trip(struct io_uring *r, int nth) {
    char out[16], in[16] = ""; struct io_uring_cqe *c;
    snprintf(out, sizeof out, "record %d", nth);
    struct io_uring_sqe *w = io_uring_get_sqe(r); io_uring_prep_write(w, file, out, sizeof out, nth * 16); w->flags |= IOSQE_IO_LINK; io_uring_sqe_set_data64(w, 1);
    struct io_uring_sqe *s = io_uring_get_sqe(r); io_uring_prep_read(s, file, in, sizeof in, nth * 16); io_uring_sqe_set_data64(s, 2);
    same(2, io_uring_submit(r));
    for (int i = 1; i <= 2; i++) { same(0, io_uring_wait_cqe(r, &c)); same(i, c->user_data); same(16, c->res); io_uring_cqe_seen(r, c); }
    check(!strcmp(in, out));
}
int main(void) {
    struct io_uring ring, prepared;
    file = must(open(scenario_path("file"), O_CREAT | O_RDWR, 0600)); event = must(eventfd(0, EFD_NONBLOCK));
    must0(-io_uring_queue_init(32, &ring, IORING_SETUP_COOP_TASKRUN)); must0(-io_uring_register_eventfd(&ring, event)); same(1, io_uring_register_ring_fd(&ring));
    struct io_uring_params p = { .flags = IORING_SETUP_SINGLE_ISSUER };
    must0(-io_uring_queue_init_params(8, &prepared, &p));
    for (int i = 0; i < 200; i++) { round_trip(&ring, i); round_trip(&prepared, i); }
    struct io_uring_sqe *waiting = io_uring_get_sqe(&ring); io_uring_prep_nop(waiting); io_uring_sqe_set_data64(waiting, 99);
    check(told() > 0);
    scenario_wait();
    same(0, told());
    struct io_uring_cqe *c; same(1, io_uring_submit(&ring)); same(0, io_uring_wait_cqe(&ring, &c)); same(99, c->user_data); io_uring_cqe_seen(&ring, c);
    check(told() > 0);
    for (int i = 0; i < 200; i++) { round_trip(&ring, i); round_trip(&prepared, i); }
    same(0, io_uring_unregister_eventfd(&ring));
    io_uring_queue_exit(&ring); io_uring_queue_exit(&prepared);
    return scenario_end();
}

// An io_uring that epoll watches, one that tells an eventfd (always, or only what completes later), and one with an empty table of files.
#include "ring.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
static int ready(int epoll) { struct epoll_event e; int n = epoll_wait(epoll, &e, 1, 0); return n == 1 ? (int)e.data.u32 : n; }
static uint64_t told(int event) { uint64_t n = 0; return read(event, &n, 8) == 8 ? n : 0; }
int main(void) {
    struct ring watched, telling, later, files;
    ring_make(&watched, 8, 0, 0); ring_make(&telling, 8, 0, 0); ring_make(&later, 8, IORING_SETUP_SINGLE_ISSUER, 0); ring_make(&files, 8, 0, 0);
    int epoll = must(epoll_create1(EPOLL_CLOEXEC)), event = must(eventfd(0, EFD_NONBLOCK)), other = must(eventfd(3, EFD_NONBLOCK));
    struct epoll_event e = { .events = EPOLLIN, .data.u32 = 17 };
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, watched.fd, &e));
    must(syscall(SYS_io_uring_register, telling.fd, IORING_REGISTER_EVENTFD, &event, 1));
    must(syscall(SYS_io_uring_register, later.fd, IORING_REGISTER_EVENTFD_ASYNC, &other, 1));
    static struct { unsigned nr, flags; uint64_t resv, data, tags; } sparse = { 5, 1, 0, 0, 0 };
    must(syscall(SYS_io_uring_register, files.fd, 13, &sparse, sizeof sparse));
    ring_nop(&telling, 1); ring_nop(&later, 1); same(0, ready(epoll));
    scenario_wait();
    same(0, ready(epoll));
    ring_nop(&watched, 2); same(17, ready(epoll)); ring_expect(&watched, 2, 0); same(0, ready(epoll));
    same(1, told(event)); ring_nop(&telling, 3); same(1, told(event)); ring_expect(&telling, 1, 0); ring_expect(&telling, 3, 0);
    same(3, told(other)); ring_nop(&later, 4); same(0, told(other));
    check(syscall(SYS_io_uring_register, telling.fd, IORING_REGISTER_EVENTFD, &event, 1) == -1 && errno == EBUSY);
    int file = must(open(scenario_path("file"), O_CREAT | O_RDWR, 0600)), slot = 4;
    must(write(file, "contents", 8));
    struct { unsigned offset, resv; uint64_t fds; } update = { slot, 0, (uintptr_t)&file };
    same(1, syscall(SYS_io_uring_register, files.fd, IORING_REGISTER_FILES_UPDATE, &update, 1));
    char text[8] = "";
    struct io_uring_sqe *s = ring_entry(&files);
    s->opcode = IORING_OP_READ; s->flags = IOSQE_FIXED_FILE; s->fd = slot; s->addr = (uintptr_t)text; s->len = 8; s->user_data = 9;
    same(1, ring_enter(&files, 1, 1)); ring_expect(&files, 9, 8); check(!memcmp(text, "contents", 8));
    return scenario_end();
}

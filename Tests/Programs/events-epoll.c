// Epoll: level and edge, nested, duplicates and closed numbers of what is watched, one-shot entries armed and fired, an instance shared by fork, a signalfd's.
#include "scenario.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
static void watch(int epoll, int fd, uint32_t events, uint64_t data) { struct epoll_event e = { events, { .u64 = data } }; must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)); }
// The events of `data`, among all that are ready now; 0: none.
static uint32_t ready(int epoll, uint64_t data) {
    struct epoll_event e[32];
    int n = must(epoll_wait(epoll, e, 32, 0));
    for (int i = 0; i < n; i++) if (e[i].data.u64 == data) return e[i].events;
    return 0;
}
static void count(int fd) { must(write(fd, &(uint64_t) { 1 }, 8)); }
int main(void) {
    char c; uint64_t n;
    int outer = must(epoll_create1(EPOLL_CLOEXEC)), inner = must(epoll_create1(0)), once = must(epoll_create1(0)), edges = must(epoll_create1(0)), p[2], q[2], s[2], full[2];
    must(pipe(p)); must(pipe(q)); must(pipe2(full, O_NONBLOCK)); must(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    while (write(full[1], &c, 1) == 1) {}
    int event = must(eventfd(0, EFD_NONBLOCK)), timer = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    watch(outer, p[0], EPOLLIN, 0x1111222233334444);
    watch(outer, p[1], EPOLLOUT, 2);
    watch(outer, full[1], EPOLLOUT, 3);
    watch(outer, inner, EPOLLIN, 4);
    watch(inner, event, EPOLLIN, 5);
    // Watched under a number that is free by now, and one that is another file's; the same file under two numbers.
    int gone = must(dup(q[0])), other = must(dup(q[0]));
    watch(outer, gone, EPOLLIN, 6); watch(outer, other, EPOLLIN | EPOLLRDHUP, 7); watch(outer, q[0], EPOLLIN, 8);
    close(gone); must(dup2(event, other));
    watch(outer, other, EPOLLIN, 9);
    watch(edges, s[0], EPOLLIN | EPOLLET, 10);
    // One-shot: armed; fired and ready; fired and ready for nothing.
    watch(once, s[1], EPOLLIN | EPOLLONESHOT, 11);
    int fired_event = must(eventfd(1, EFD_NONBLOCK)), fired[2], fired_timer = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    must(pipe(fired));
    sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR1);
    must0(pthread_sigmask(SIG_BLOCK, &set, NULL));
    int fired_inner = must(epoll_create1(0)), inner_event = must(eventfd(1, EFD_NONBLOCK));
    watch(fired_inner, inner_event, EPOLLIN, 20);
    must(write(fired[1], "x", 1)); must(timerfd_settime(fired_timer, 0, &(struct itimerspec) { { 0, 0 }, { 0, 1 } }, NULL)); usleep(20000);
    watch(once, fired_event, EPOLLIN | EPOLLONESHOT, 13); watch(once, fired[0], EPOLLIN | EPOLLONESHOT, 14); watch(once, fired_timer, EPOLLIN | EPOLLONESHOT, 15); watch(once, fired_inner, EPOLLIN | EPOLLONESHOT, 16);
    struct epoll_event e[8]; same(4, epoll_wait(once, e, 8, 1000));
    must(read(fired[0], &c, 1)); must(read(fired_timer, &n, 8)); must(read(inner_event, &n, 8));
    watch(outer, timer, EPOLLIN, 17);
    must(timerfd_settime(timer, 0, &(struct itimerspec) { { 0, 0 }, { 1, 500000000 } }, NULL));
    int told[2]; must(pipe(told));
    pid_t child = fork();
    if (!child) { scenario_await("go"); must(read(told[0], &c, 1)); check(ready(outer, 0x1111222233334444) == EPOLLIN); scenario_leave(0); }
    int signals = must(signalfd(-1, &set, SFD_NONBLOCK));     // the child has none
    watch(outer, signals, EPOLLIN, 12);
    struct signalfd_siginfo info;
    scenario_wait();
    same(FD_CLOEXEC, fcntl(outer, F_GETFD));
    same(EPOLLOUT, ready(outer, 2)); same(0, ready(outer, 3)); same(0, ready(outer, 0x1111222233334444)); same(0, ready(outer, 4)); same(0, ready(outer, 6)); same(0, ready(outer, 12));
    must(write(p[1], "y", 1)); same(EPOLLIN, ready(outer, 0x1111222233334444)); must(write(told[1], "t", 1)); scenario_child(child, 0); must(read(p[0], &c, 1));
    must(read(full[0], (char[4096]) { 0 }, 4096)); same(EPOLLOUT, ready(outer, 3));
    count(event); same(EPOLLIN, ready(outer, 4)); same(EPOLLIN, ready(inner, 5)); same(EPOLLIN, ready(outer, 9)); must(read(event, &n, 8)); same(0, ready(outer, 4));
    must(write(q[1], "z", 1)); same(EPOLLIN, ready(outer, 6)); same(EPOLLIN, ready(outer, 7)); same(EPOLLIN, ready(outer, 8)); must(read(q[0], &c, 1));
    raise(SIGUSR1); same(EPOLLIN, ready(outer, 12)); must(read(signals, &info, sizeof info)); same(0, ready(outer, 12));
    same(0, ready(edges, 10)); must(write(s[1], "edge", 4)); same(EPOLLIN, ready(edges, 10)); same(0, ready(edges, 10));
    count(fired_event); must(write(fired[1], "x", 1)); count(inner_event);
    same(0, ready(once, 13)); same(0, ready(once, 14)); same(0, ready(once, 15)); same(0, ready(once, 16));
    must(write(s[0], "a", 1)); same(EPOLLIN, ready(once, 11)); same(0, ready(once, 11));
    must(epoll_ctl(once, EPOLL_CTL_MOD, fired[0], &(struct epoll_event) { EPOLLIN, { .u64 = 18 } })); same(EPOLLIN, ready(once, 18));
    must(epoll_ctl(outer, EPOLL_CTL_DEL, q[0], NULL)); must(write(q[1], "z", 1)); same(0, ready(outer, 8)); same(EPOLLIN, ready(outer, 6));
    for (int i = 0; i < 300 && !ready(outer, 17); i++) usleep(10000);
    same(EPOLLIN, ready(outer, 17)); same(8, read(timer, &n, 8));
    return scenario_end();
}

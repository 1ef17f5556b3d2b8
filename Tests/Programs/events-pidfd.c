// Pidfds: of oneself, of a running child, of one that has exited and of one that is waited for; shared with a child, and in an epoll instance.
#include "scenario.h"
#include <poll.h>
#include <sys/epoll.h>
static int of(pid_t pid, unsigned flags) { return must(syscall(SYS_pidfd_open, pid, flags)); }
static int signal_to(int fd, int s) { return syscall(424, fd, s, NULL, 0); }
static int ended(int fd) { struct pollfd p = { fd, POLLIN, 0 }; return poll(&p, 1, 0); }
static volatile int got;
static void on_signal(int s) { (void)s; got++; }
int main(void) {
    int go[2]; char c;
    must(pipe(go));
    signal(SIGUSR1, on_signal);
    pid_t running = fork();
    if (!running) { close(go[1]); must(read(go[0], &c, 1)); _exit(7); }
    pid_t zombie = fork(); if (!zombie) _exit(8);
    pid_t reaped = fork(); if (!reaped) _exit(9);
    int self = of(getpid(), 0), child = of(running, O_NONBLOCK), dead = of(zombie, 0), past = of(reaped, 0), copy = must(dup(child));
    must(waitpid(reaped, NULL, 0));
    siginfo_t i; must(waitid(P_PID, zombie, &i, WEXITED | WNOWAIT));
    int epoll = must(epoll_create1(0));
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, child, &(struct epoll_event) { EPOLLIN, { .u64 = 1 } }));
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, dead, &(struct epoll_event) { EPOLLIN, { .u64 = 2 } }));
    pid_t sharer = fork();
    if (!sharer) { scenario_await("go"); same(0, signal_to(child, 0)); same(0, signal_to(self, 0)); same(-1, signal_to(past, 0)); scenario_leave(4); }
    scenario_wait();
    scenario_child(sharer, 4);
    same(0, signal_to(self, SIGUSR1)); for (int k = 0; k < 100 && !got; k++) usleep(1000); same(1, got);
    same(0, signal_to(child, 0)); same(O_NONBLOCK, fcntl(child, F_GETFL) & O_NONBLOCK); same(0, fcntl(self, F_GETFL) & O_NONBLOCK);
    same(0, ended(child)); same(0, ended(copy)); same(1, ended(dead)); same(1, ended(past)); same(-1, signal_to(past, 0)); same(ESRCH, errno);
    struct epoll_event e[4];
    same(1, epoll_wait(epoll, e, 4, 0)); same(2, e[0].data.u64);
    check(waitid(3, child, &i, WEXITED) < 0 && errno == EAGAIN);     // P_PIDFD, O_NONBLOCK
    must(waitid(3, dead, &i, WEXITED)); same(zombie, i.si_pid); same(8, i.si_status);
    must(write(go[1], "x", 1)); for (int k = 0; k < 2000 && !ended(copy); k++) usleep(1000);
    int seen = must(epoll_wait(epoll, e, 4, 0)); for (int k = 0; k < seen; k++) if (e[k].data.u64 == 1) got = 2;
    same(2, got);
    must(waitid(3, copy, &i, WEXITED)); same(running, i.si_pid); same(7, i.si_status); same(CLD_EXITED, i.si_code);
    return scenario_end();
}

// F_SETOWN and F_SETSIG of a description.
#include "scenario.h"
int main(void) {
    int p[2];
    must(pipe(p));
    int owner = fcntl(p[0], F_SETOWN, getpid()), sig = fcntl(p[0], F_SETSIG, SIGRTMIN + 3);
    same(0, owner);
    same(0, sig);
    scenario_wait();
    same(getpid(), fcntl(p[0], F_GETOWN));
    same(SIGRTMIN + 3, fcntl(p[0], F_GETSIG));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, NULL);
    must(fcntl(p[0], F_SETFL, O_ASYNC));
    must(write(p[1], "x", 1));
    siginfo_t info;
    struct timespec limit = { 2, 0 };
    same(SIGRTMIN + 3, sigtimedwait(&set, &info, &limit));
    same(p[0], info.si_fd);
    return scenario_end();
}

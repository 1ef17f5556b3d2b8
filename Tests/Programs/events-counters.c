// eventfd with its count, signalfd with its set and what is pending for it, timerfds: running, periodic, expired and not read, disarmed, absolute.  Shared with a child.
#include "scenario.h"
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
static double left_of(int fd) { struct itimerspec t; must(timerfd_gettime(fd, &t)); return t.it_value.tv_sec + t.it_value.tv_nsec / 1e9; }
static uint64_t take(int fd) { uint64_t n = 0; return read(fd, &n, 8) == 8 ? n : errno == EAGAIN ? 0 : ~0ull; }
int main(void) {
    int count = must(eventfd(7, EFD_NONBLOCK | EFD_CLOEXEC)), sem = must(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK)), full = must(eventfd(0, EFD_NONBLOCK)), twin = must(dup(count));
    uint64_t most = 0xfffffffffffffffe;
    must(write(full, &most, 8));
    sigset_t set;
    sigemptyset(&set); sigaddset(&set, SIGUSR1); sigaddset(&set, SIGRTMIN + 3);
    must0(pthread_sigmask(SIG_BLOCK, &set, NULL));
    int signals = must(signalfd(-1, &set, SFD_NONBLOCK));
    must(sigqueue(getpid(), SIGRTMIN + 3, (union sigval) { .sival_int = 41 }));
    must(sigqueue(getpid(), SIGRTMIN + 3, (union sigval) { .sival_int = 42 }));
    int one = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)), every = must(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK)), done = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)),
        beats = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)), none = must(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC)), absolute = must(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK)), soon = must(timerfd_create(CLOCK_MONOTONIC, 0));
    must(timerfd_settime(one, 0, &(struct itimerspec) { { 0, 0 }, { 500, 0 } }, NULL));
    must(timerfd_settime(every, 0, &(struct itimerspec) { { 9, 5 }, { 300, 0 } }, NULL));
    must(timerfd_settime(done, 0, &(struct itimerspec) { { 0, 0 }, { 0, 1000000 } }, NULL));
    must(timerfd_settime(beats, 0, &(struct itimerspec) { { 0, 10000000 }, { 0, 10000000 } }, NULL));
    struct timespec now; clock_gettime(CLOCK_REALTIME, &now);
    must(timerfd_settime(absolute, TFD_TIMER_ABSTIME, &(struct itimerspec) { { 0, 0 }, { now.tv_sec + 200, 0 } }, NULL));
    must(timerfd_settime(soon, 0, &(struct itimerspec) { { 0, 0 }, { 2, 0 } }, NULL));
    usleep(60000);
    int counts[2]; must(pipe(counts));
    pid_t child = fork();
    if (!child) {       // shares all of them
        scenario_await("go");
        uint64_t n = 5; must(write(count, &n, 8));
        char c = 'w'; must(write(counts[1], &c, 1));
        scenario_leave(0);
    }
    double start = scenario_now();
    scenario_wait();
    double passed = scenario_now() - start;
    char c; must(read(counts[0], &c, 1)); scenario_child(child, 0);
    same(12, take(twin)); same(0, take(count));
    same(1, take(sem)); same(1, take(sem)); same(1, take(sem)); same(0, take(sem));
    check(write(full, &(uint64_t) { 1 }, 8) < 0 && errno == EAGAIN); same(most, take(full));
    same(O_RDWR | O_NONBLOCK, fcntl(count, F_GETFL) & ~O_LARGEFILE); same(FD_CLOEXEC, fcntl(count, F_GETFD)); same(0, fcntl(twin, F_GETFD)); same(FD_CLOEXEC, fcntl(none, F_GETFD));
    struct signalfd_siginfo info;
    for (int i = 41; i < 43; i++) { same(sizeof info, read(signals, &info, sizeof info)); same(SIGRTMIN + 3, info.ssi_signo); same(i, info.ssi_int); }
    check(read(signals, &info, sizeof info) < 0 && errno == EAGAIN);
    raise(SIGUSR1); same(sizeof info, read(signals, &info, sizeof info)); same(SIGUSR1, info.ssi_signo);
    struct { int fd; double left; } running[] = { { one, 500 }, { every, 300 }, { absolute, 200 } };
    for (int i = 0; i < 3; i++) if (left_of(running[i].fd) < running[i].left - passed - 2.5 || left_of(running[i].fd) > running[i].left - passed + 15) scenario_differs("timer %d: %.3f s left after %.3f s", i, left_of(running[i].fd), passed);
    struct itimerspec t; must(timerfd_gettime(every, &t)); same(9, t.it_interval.tv_sec); same(5, t.it_interval.tv_nsec);
    must(timerfd_gettime(none, &t)); same(0, t.it_value.tv_sec + t.it_value.tv_nsec);
    same(1, take(done)); same(0, take(done)); same(0, take(one));
    check(take(beats) >= 5);
    usleep(50000); check(take(beats) >= 2);
    must(timerfd_gettime(beats, &t)); same(10000000, t.it_interval.tv_nsec); check(t.it_value.tv_nsec > 0 && t.it_value.tv_nsec <= 10000000);
    same(1, take(soon));
    return scenario_end();
}

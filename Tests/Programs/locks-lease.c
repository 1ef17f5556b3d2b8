// Leases: a read and a write lease are still held, break when somebody opens the file, and tell by the signal and to the process that were chosen.
#include "scenario.h"
static volatile int got, got_fd;
static void on_break(int s, siginfo_t *i, void *c) { (void)s; (void)c; got_fd = i->si_fd; got++; }
int main(void) {
    must(close(must(open(scenario_path("read"), O_RDWR | O_CREAT, 0600))));
    must(close(must(open(scenario_path("write"), O_RDWR | O_CREAT, 0600))));
    int reading = must(open(scenario_path("read"), O_RDONLY)), writing = must(open(scenario_path("write"), O_RDWR));
    struct sigaction a = { .sa_sigaction = on_break, .sa_flags = SA_SIGINFO | SA_RESTART };
    must(sigaction(SIGRTMIN + 2, &a, NULL));
    must(fcntl(reading, F_SETSIG, SIGRTMIN + 2));
    must(fcntl(writing, F_SETSIG, SIGRTMIN + 2));
    must(fcntl(reading, F_SETLEASE, F_RDLCK));
    must(fcntl(writing, F_SETLEASE, F_WRLCK));
    scenario_wait();
    same(F_RDLCK, fcntl(reading, F_GETLEASE)); same(F_WRLCK, fcntl(writing, F_GETLEASE));
    same(SIGRTMIN + 2, fcntl(reading, F_GETSIG)); same(getpid(), fcntl(reading, F_GETOWN));
    same(0, got);
    check(open(scenario_path("write"), O_RDONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK);
    for (int i = 0; i < 200 && !got; i++) usleep(5000);
    same(1, got); same(writing, got_fd);
    must(fcntl(writing, F_SETLEASE, F_UNLCK));
    must(open(scenario_path("write"), O_RDONLY | O_NONBLOCK));
    check(open(scenario_path("read"), O_WRONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK);
    for (int i = 0; i < 200 && got < 2; i++) usleep(5000);
    same(2, got); same(reading, got_fd);
    return scenario_end();
}

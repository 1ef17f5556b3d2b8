// Stopped children come back stopped: their timers begin to run only when they are continued, whatever has been checkpointed until then.
#include "scenario.h"
static volatile int alarms[2];
static void count(int signal) { alarms[signal == SIGALRM]++; }
static void child(int armed) {
    struct itimerval every = { { 0, 20000 }, { 0, 20000 } };
    struct itimerspec same_for_posix = { { 0, 20000000 }, { 0, 20000000 } };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    timer_t timer;
    signal(SIGALRM, count);
    signal(SIGUSR1, count);
    must(setitimer(ITIMER_REAL, &every, NULL));
    must(timer_create(CLOCK_MONOTONIC, &event, &timer));
    must(timer_settime(timer, 0, &same_for_posix, NULL));
    must(write(armed, "", 1));
    scenario_await("go");
    for (int i = 0; i < 2; i++) for (int seen = alarms[i], n = 0; alarms[i] < seen + 3; n++) { usleep(5000); if (n > 4000) scenario_leave(22); }
    scenario_leave(21);
}
int main(void) {
    enum { N = 6 };
    pid_t children[N];
    int armed[2], status;
    char byte;
    must(pipe(armed));
    for (int i = 0; i < N; i++) if (!(children[i] = must(fork()))) child(armed[1]);
    for (int i = 0; i < N; i++) same(1, read(armed[0], &byte, 1));
    for (int i = 0; i < N; i += 2) { must(kill(children[i], SIGSTOP)); same(children[i], waitpid(children[i], &status, WUNTRACED)); }
    scenario_wait();
    for (int i = 0; i < N; i += 2) must(kill(children[i], SIGCONT));
    for (int i = 0; i < N; i++) scenario_child(children[i], 21);
    return scenario_end();
}

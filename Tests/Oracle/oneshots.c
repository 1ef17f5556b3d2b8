// Timers that run out once, again and again: each must be heard of exactly once.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

int main(int argc, char **argv) {
    int rounds = atoi(argv[1]), posix = SIGRTMIN + 3;
    sigset_t set;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = posix};
    unsigned random = 1;
    sigemptyset(&set); sigaddset(&set, SIGALRM); sigaddset(&set, posix);
    sigprocmask(SIG_BLOCK, &set, NULL);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    for (int i = 0; i < rounds; i++) {
        random = random * 1103515245 + 12345;
        int time = 200 + random % 6000, left = 2, alarms = 0, expiries = 0;
        struct itimerval once = {.it_value.tv_usec = time};
        struct itimerspec other = {.it_value.tv_nsec = (6400 - time) * 1000};
        timer_settime(timer, 0, &other, NULL);
        setitimer(ITIMER_REAL, &once, NULL);
        while (left-- > 0) { if (sigwaitinfo(&set, NULL) == SIGALRM) alarms++; else expiries++; }
        // One that has been heard of before its time is up again would come within this.
        struct timespec soon = {0, i % 16 == 0 ? 7000000 : 0};
        int more = sigtimedwait(&set, NULL, &soon);
        if (alarms != 1 || expiries != 1 || more >= 0) printf("round %d: %d of SIGALRM, %d of the timer, then %d\n", i, alarms, expiries, more);
        if (i % 100 == 99) { printf("%d\n", i + 1); fflush(stdout); }
    }
    printf("end\n");
    return 0;
}

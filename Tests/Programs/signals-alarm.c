// alarm(2) fires once, after what was left of it; the wait for it in pause and sigsuspend goes on.
#include "scenario.h"
static volatile int alarms, usr;
static void on_alarm(int s) { (void)s; alarms++; }
static void on_usr(int s) { (void)s; usr++; }
static volatile int up;
static void *suspended(void *u) {
    sigset_t none;
    sigemptyset(&none);
    up = 1;
    int r = sigsuspend(&none);
    check(r == -1 && errno == EINTR && usr == 1);
    return u;
}
static void *waiting(void *u) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 4);
    siginfo_t info;
    int r = sigwaitinfo(&set, &info);
    same(SIGRTMIN + 4, r);
    same(17, info.si_value.sival_int);
    return u;
}
int main(void) {
    struct sigaction a = { .sa_handler = on_alarm }, b = { .sa_handler = on_usr };
    sigaction(SIGALRM, &a, NULL);
    sigaction(SIGUSR1, &b, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 4);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pthread_t s, w;
    must0(pthread_create(&s, NULL, suspended, NULL));
    must0(pthread_create(&w, NULL, waiting, NULL));
    while (!up) usleep(1000);
    alarm(100);
    scenario_wait();
    int left = alarm(1);
    if (left < 80 || left > 100) scenario_differs("alarm: %d s left", left);
    same(0, alarms);
    double start = scenario_now();
    pause();
    same(1, alarms);
    check(scenario_now() - start > 0.5 && scenario_now() - start < 5);
    pthread_kill(s, SIGUSR1);
    union sigval v = { .sival_int = 17 };
    pthread_sigqueue(w, SIGRTMIN + 4, v);
    pthread_join(s, NULL);
    pthread_join(w, NULL);
    return scenario_end();
}

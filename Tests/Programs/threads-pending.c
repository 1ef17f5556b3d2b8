// Signals pending for single threads, with their siginfo and in their order.
#include "scenario.h"
static volatile int up, flag;
static void *body(void *argument) {
    long i = (long)argument;
    sigset_t mask;
    sigfillset(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_kill(pthread_self(), SIGUSR1);
    for (int k = 0; k < 3; k++) {
        union sigval value = { .sival_int = 100 * i + k };
        must0(pthread_sigqueue(pthread_self(), SIGRTMIN + 2, value));
    }
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    while (!flag) usleep(1000);
    sigset_t pending;
    sigpending(&pending);
    check(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN + 2) && !sigismember(&pending, SIGUSR2));
    struct timespec none = { 0, 0 };
    siginfo_t info;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    same(SIGUSR1, sigtimedwait(&one, &info, &none));
    same(SI_USER, info.si_code);      // glibc shows SI_TKILL so
    same(getpid(), info.si_pid);
    same(-1, sigtimedwait(&one, &info, &none));
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 2);
    for (int k = 0; k < 3; k++) {
        same(SIGRTMIN + 2, sigtimedwait(&one, &info, &none));
        same(SI_QUEUE, info.si_code);
        same(100 * i + k, info.si_value.sival_int);
        same(getuid(), info.si_uid);
    }
    same(-1, sigtimedwait(&one, &info, &none));
    return NULL;
}
int main(void) {
    pthread_t threads[3];
    for (long i = 0; i < 3; i++) must0(pthread_create(&threads[i], NULL, body, (void *)i));
    while (up < 3) usleep(1000);
    scenario_wait();
    flag = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    return scenario_end();
}

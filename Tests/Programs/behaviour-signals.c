// Blocks every signal, overrides every action, all the time and in every way: it still is checkpointed, and its own view stays what it set.
#include "scenario.h"
static volatile int handled;
static void handler(int s) { (void)s; __atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED); }
static void *body(void *u) {
    while (!scenario_exists("go")) {
        sigset_t all, none, old;
        sigfillset(&all);
        sigemptyset(&none);
        for (int i = 0; i < 2000; i++) {
            pthread_sigmask(SIG_SETMASK, &all, &old);
            pthread_sigmask(SIG_SETMASK, NULL, &old);
            check(sigismember(&old, SIGUSR1) && sigismember(&old, 64) && sigismember(&old, SIGRTMIN));
            pthread_sigmask(SIG_SETMASK, &none, &old);
            pthread_sigmask(SIG_SETMASK, NULL, &old);
            check(!sigismember(&old, SIGUSR1) && !sigismember(&old, 64));
        }
        pthread_sigmask(SIG_SETMASK, &all, NULL);
        usleep(20000);                                      // mostly everything is blocked
    }
    return u;
}
int main(void) {
    for (int s = 1; s < 65; s++) {
        struct sigaction a = { .sa_handler = handler, .sa_flags = 0 }, seen;
        sigfillset(&a.sa_mask);
        if (s == SIGKILL || s == SIGSTOP || s == 32 || s == 33) continue;
        if (s % 2) signal(s, handler); else sigaction(s, &a, NULL);
        must(sigaction(s, NULL, &seen));
        check(seen.sa_handler == handler);
    }
    signal(64, SIG_IGN);
    signal(64, SIG_DFL);
    signal(64, handler);
    pthread_t t[3];
    for (int i = 0; i < 3; i++) must0(pthread_create(&t[i], NULL, body, NULL));
    scenario_wait();
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    same(0, handled);                                       // no signal came that the application could see
    struct sigaction seen;
    must(sigaction(64, NULL, &seen));
    check(seen.sa_handler == handler);
    return scenario_end();
}

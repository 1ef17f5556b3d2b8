// Signals pending for the process: siginfo, order of queued real-time ones, standard ones once; masks hold them back until they are opened.
#include "scenario.h"
static int got[32], n;
static siginfo_t infos[32];
static void handler(int s, siginfo_t *i, void *c) { (void)c; if (n < 32) { got[n] = s; infos[n++] = *i; } }
int main(void) {
    struct sigaction a = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    sigfillset(&a.sa_mask);
    int signals[] = { SIGUSR1, SIGUSR2, SIGCHLD, SIGRTMIN, SIGRTMIN + 5, SIGTERM };
    sigset_t set, old, now;
    sigemptyset(&set);
    for (int i = 0; i < 6; i++) { sigaction(signals[i], &a, NULL); sigaddset(&set, signals[i]); }
    sigprocmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 4; i++) { union sigval v = { .sival_ptr = (void *)(0x100000000l + i) }; must(sigqueue(getpid(), SIGRTMIN + 5, v)); }
    union sigval v = { .sival_int = 99 };
    must(sigqueue(getpid(), SIGTERM, v));
    siginfo_t forged = { 0 };
    forged.si_code = -60;
    forged.si_value.sival_int = 123;
    must(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &forged));
    pid_t child = must(fork());
    if (!child) _exit(9);
    siginfo_t info;
    must(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    scenario_wait();
    sigprocmask(SIG_BLOCK, NULL, &now);
    for (int s = 1; s < 65; s++) same(10 * s + (sigismember(&set, s) | sigismember(&old, s)), 10 * s + sigismember(&now, s));
    sigset_t pending;
    sigpending(&pending);
    for (int i = 0; i < 6; i++) same(signals[i] * 10 + (signals[i] != SIGUSR2), signals[i] * 10 + sigismember(&pending, signals[i]));
    sigprocmask(SIG_SETMASK, &old, NULL);
    same(8, n);
    int order = 0, usr1 = 0, chld = 0, term = 0, rtmin = 0;
    for (int i = 0; i < n; i++) {
        if (got[i] == SIGUSR1) { usr1++; same(SI_USER, infos[i].si_code); same(getpid(), infos[i].si_pid); same(getuid(), infos[i].si_uid); }
        if (got[i] == SIGTERM) { term++; same(SI_QUEUE, infos[i].si_code); same(99, infos[i].si_value.sival_int); }
        if (got[i] == SIGCHLD) { chld++; same(CLD_EXITED, infos[i].si_code); same(child, infos[i].si_pid); same(9, infos[i].si_status); }
        if (got[i] == SIGRTMIN) { rtmin++; same(-60, infos[i].si_code); same(123, infos[i].si_value.sival_int); }
        if (got[i] == SIGRTMIN + 5) same(0x100000000l + order++, infos[i].si_value.sival_ptr);
    }
    same(4, order); same(1, usr1); same(1, chld); same(1, term); same(1, rtmin);
    scenario_child(child, 9);
    return scenario_end();
}

// Every signal's disposition, as the kernel holds it and as libc shows it.
#include "scenario.h"
struct action { void *handler; unsigned long flags; void *restorer; unsigned long mask; };
static void one(int s) { (void)s; }
static void two(int s, siginfo_t *i, void *c) { (void)s; (void)i; (void)c; }
static void take(struct action *a) { for (int s = 1; s < 65; s++) { memset(&a[s], 0, sizeof a[s]); syscall(SYS_rt_sigaction, s, NULL, &a[s], 8); } }
static volatile int count;
static void counted(int s) { (void)s; count++; }
int main(void) {
    struct action before[65], after[65];
    for (int s = 1; s < 65; s++) {
        if (s == SIGKILL || s == SIGSTOP || s == 32 || s == 33 || s == SIGCHLD) continue;
        struct sigaction a = { 0 };
        sigemptyset(&a.sa_mask);
        switch (s % 5) {
        case 0: continue;
        case 1: a.sa_handler = SIG_IGN; break;
        case 2: a.sa_handler = one; a.sa_flags = SA_RESTART; sigaddset(&a.sa_mask, 1 + s % 60); break;
        case 3: a.sa_sigaction = two; a.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK; sigfillset(&a.sa_mask); break;
        case 4: a.sa_handler = one; a.sa_flags = SA_RESETHAND; break;
        }
        must(sigaction(s, &a, NULL));
    }
    struct sigaction chld = { .sa_handler = counted, .sa_flags = SA_NOCLDSTOP };
    must(sigaction(SIGCHLD, &chld, NULL));
    signal(SIGUSR1, counted);
    take(before);
    scenario_wait();
    take(after);
    for (int s = 1; s < 64; s++) {
        same(before[s].handler, after[s].handler);
        same(before[s].flags, after[s].flags);
        same(before[s].mask, after[s].mask);
        if ((long)before[s].handler > 1) same(before[s].restorer, after[s].restorer);
    }
    struct sigaction seen;
    must(sigaction(SIGCHLD, NULL, &seen));
    check(seen.sa_handler == counted && seen.sa_flags & SA_NOCLDSTOP);
    raise(SIGUSR1);
    same(1, count);
    pid_t child = fork();
    if (!child) _exit(0);
    waitpid(child, NULL, 0);
    same(2, count);
    return scenario_end();
}

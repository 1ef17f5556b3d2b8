// Stops and continuations of children, collected by their parent or not, by every signal that stops: each is seen once, and not again; one SIGCHLD.
#include "scenario.h"
enum { STOPPED, CONTINUED };
static struct kind { int signal, now, collected; pid_t pid; } kinds[] = {
    { SIGSTOP, STOPPED, 0 }, { SIGSTOP, STOPPED, 1 }, { SIGTSTP, STOPPED, 0 }, { SIGTSTP, STOPPED, 1 }, { SIGTTIN, STOPPED, 0 }, { SIGTTOU, STOPPED, 0 },
    { SIGSTOP, CONTINUED, 0 }, { SIGSTOP, CONTINUED, 1 }, { SIGTSTP, CONTINUED, 0 },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };
static volatile int notices, continues;
static void notice(int s) { notices++; }
static void go_on(int s) { continues++; }
// A child's SIGCHLD comes when that runs, and may come later than what waitid(2) finds.
static void noticed(void) {
    sigset_t set; sigemptyset(&set); sigaddset(&set, SIGCHLD);
    struct timespec limit = { 20, 0 };
    same(SIGCHLD, sigtimedwait(&set, NULL, &limit));
}
static void block(int how) { sigset_t set; sigemptyset(&set); sigaddset(&set, SIGCHLD); must(sigprocmask(how, &set, NULL)); }
static int peek(pid_t pid, int options, siginfo_t *info) { memset(info, 0, sizeof *info); return waitid(P_PID, pid, info, options | WNOHANG); }

static void child(struct kind *k) {
    block(SIG_UNBLOCK);
    if (k->now == CONTINUED && !k->collected) signal(SIGCONT, go_on);
    if (k->signal == SIGTTOU) { pthread_t t; void *idle(void *); pthread_create(&t, NULL, idle, NULL); }
    char name[32];
    snprintf(name, sizeof name, "child-%d", (int)(k - kinds));
    scenario_touch(name);
    scenario_await("done");
    if (k->now == CONTINUED && !k->collected) same(1, continues);
    scenario_leave(40 + (int)(k - kinds));
}
void *idle(void *x) { for (;;) pause(); }

int main(void) {
    siginfo_t info;
    block(SIG_BLOCK);
    for (int i = 0; i < KINDS; i++) {
        struct kind *k = &kinds[i];
        if (!(k->pid = must(fork()))) child(k);
        char name[32];
        snprintf(name, sizeof name, "child-%d", i);
        scenario_await(name);
        // A group of its own whose leader's parent is in another: the terminal's signals stop it.
        setpgid(k->pid, k->pid);
        must(kill(k->pid, k->signal));
        must(waitid(P_PID, k->pid, &info, WSTOPPED | WNOWAIT));
        noticed();
        if (k->now == CONTINUED) {
            must(kill(k->pid, SIGCONT));
            must(waitid(P_PID, k->pid, &info, WCONTINUED | WNOWAIT));
            noticed();
        }
        if (k->collected) must(waitid(P_PID, k->pid, &info, k->now == STOPPED ? WSTOPPED : WCONTINUED));
    }
    struct sigaction action = { .sa_handler = notice, .sa_flags = SA_RESTART };
    sigaction(SIGCHLD, &action, NULL);
    block(SIG_UNBLOCK);
    scenario_wait();
    same(0, notices);
    for (int i = 0; i < KINDS; i++) {
        struct kind *k = &kinds[i];
        for (int again = 0; again < 2; again++) {
            must(peek(k->pid, WSTOPPED | WCONTINUED | WEXITED | WNOWAIT, &info));
            same(k->collected ? 0 : k->pid, info.si_pid);
            if (k->collected) continue;
            same(k->now == STOPPED ? CLD_STOPPED : CLD_CONTINUED, info.si_code);
            same(k->now == STOPPED ? k->signal : SIGCONT, info.si_status);
        }
        must(peek(k->pid, WSTOPPED | WCONTINUED | WEXITED, &info));
        must(peek(k->pid, WSTOPPED | WCONTINUED | WEXITED, &info));
        same(0, info.si_pid);
    }
    same(0, notices);
    for (int i = 0; i < KINDS; i++) if (kinds[i].now == STOPPED) {
        int before = notices, status;
        must(kill(kinds[i].pid, SIGCONT));
        same(kinds[i].pid, waitpid(kinds[i].pid, &status, WCONTINUED));
        check(WIFCONTINUED(status));
        for (int t = 0; t < 200 && notices == before; t++) usleep(5000);
        same(before + 1, notices);
    }
    scenario_touch("done");
    for (int i = 0; i < KINDS; i++) scenario_child(kinds[i].pid, 40 + i);
    return scenario_end();
}

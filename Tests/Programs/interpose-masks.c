// SIGCKPT (64) as the application sees it: blocked, ignored, handled and pending as it says; and as the kernel has it: never blocked, always the
// runtime's.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct kernel_action { unsigned long handler, flags, restorer, mask; };
static int really_blocked(void) { unsigned long m = 0; syscall(SYS_rt_sigprocmask, 0, 0, &m, 8); return m >> 63; }
static int really_handled(void) { struct kernel_action a; syscall(SYS_rt_sigaction, 64, 0, &a, 8); return a.handler > 1; }
static int failures;
#define CHECK(condition) do { if (!(condition)) { printf("line %d: %s\n", __LINE__, #condition); failures++; } } while (0)
static volatile int got;
static void handler(int s) { (void)s; got++; }
static void handler_with_info(int s, siginfo_t *info, void *context) { (void)s; (void)context; got += info->si_value.sival_int; }
static void *sees(void *expected) { sigset_t m; pthread_sigmask(SIG_BLOCK, 0, &m); CHECK(sigismember(&m, 64) == (expected != 0)); CHECK(!really_blocked()); return 0; }
static void in_thread(int expected) { pthread_t t; pthread_create(&t, 0, sees, expected ? "" : 0); pthread_join(t, 0); }

static void masks(void) {
    sigset_t full, old, none; sigfillset(&full); sigemptyset(&none);
    CHECK(!really_blocked()); CHECK(really_handled());
    sigprocmask(SIG_BLOCK, &full, &old); CHECK(!sigismember(&old, 64)); CHECK(!really_blocked());
    sigprocmask(SIG_BLOCK, 0, &old); CHECK(sigismember(&old, 64) && sigismember(&old, 63));
    in_thread(1);
    pid_t p = fork();
    if (!p) { failures = 0; sees(""); _exit(failures); }
    int status; waitpid(p, &status, 0); CHECK(status == 0);
    raise(64); CHECK(got == 0); sigpending(&old); CHECK(sigismember(&old, 64));
    struct sigaction a = { .sa_handler = handler }, b; sigfillset(&a.sa_mask);
    CHECK(!sigaction(64, &a, &b)); CHECK(b.sa_handler == SIG_DFL);
    CHECK(!sigaction(64, 0, &b)); CHECK(b.sa_handler == handler && sigismember(&b.sa_mask, 64)); CHECK(really_handled());
    pthread_sigmask(SIG_SETMASK, &none, &old); CHECK(sigismember(&old, 64)); CHECK(got == 1); CHECK(!really_blocked());
    sigprocmask(SIG_BLOCK, 0, &old); CHECK(!sigismember(&old, 64)); sigpending(&old); CHECK(!sigismember(&old, 64));
    in_thread(0);
    sighold(64); CHECK(!really_blocked()); sigprocmask(SIG_BLOCK, 0, &old); CHECK(sigismember(&old, 64));
    sigrelse(64); sigprocmask(SIG_BLOCK, 0, &old); CHECK(!sigismember(&old, 64));
    CHECK(sigset(64, SIG_HOLD) != SIG_ERR); CHECK(sigset(64, handler) == SIG_HOLD); CHECK(!really_blocked());
}
static void actions(void) {
    struct sigaction a = { .sa_handler = handler }, b; sigfillset(&a.sa_mask); got = 0;
    sigaction(64, &a, 0);
    raise(64); CHECK(got == 1); kill(getpid(), 64); CHECK(got == 2);
    CHECK(signal(64, SIG_IGN) == handler); raise(64); CHECK(got == 2); CHECK(really_handled());
    CHECK(signal(64, handler) == SIG_IGN); raise(64); CHECK(got == 3);
    a.sa_sigaction = handler_with_info; a.sa_flags = SA_SIGINFO; sigaction(64, &a, 0);
    sigqueue(getpid(), 64, (union sigval){ 10 }); CHECK(got == 13);
    a.sa_handler = handler; a.sa_flags = SA_RESETHAND; sigaction(64, &a, 0); raise(64); CHECK(got == 14);
    sigaction(64, 0, &b); CHECK(b.sa_handler == SIG_DFL); raise(64); CHECK(got == 14);
    a.sa_flags = 0; sigaction(SIGUSR1, &a, 0);
    struct kernel_action k; syscall(SYS_rt_sigaction, SIGUSR1, 0, &k, 8); CHECK(!(k.mask >> 63)); CHECK(k.mask >> 62 & 1);
    sigaction(SIGUSR1, 0, &b); CHECK(sigismember(&b.sa_mask, 64));
    signal(SIGUSR1, handler); sigaction(SIGUSR1, 0, &b); CHECK(!sigismember(&b.sa_mask, 64));
    got = 0; raise(SIGUSR1); CHECK(got == 1);
}
static ucontext_t back, there;
static void elsewhere(void) { CHECK(!really_blocked()); swapcontext(&there, &back); }
static void contexts(void) {
    static char stack[65536];
    getcontext(&there); there.uc_stack.ss_sp = stack; there.uc_stack.ss_size = sizeof stack; there.uc_link = &back;
    sigfillset(&there.uc_sigmask);
    makecontext(&there, elsewhere, 0);
    CHECK(swapcontext(&back, &there) == 0); CHECK(!really_blocked());
    sigset_t m; sigprocmask(SIG_BLOCK, 0, &m); CHECK(!sigismember(&m, SIGUSR1));
}
static void takers(void) {
    sigset_t full; sigfillset(&full); siginfo_t info; struct timespec t = { 0, 50000000 };
    int fd = signalfd(-1, &full, SFD_NONBLOCK); char line[256]; unsigned long mask = 0;
    snprintf(line, sizeof line, "/proc/self/fdinfo/%d", fd);
    FILE *f = fopen(line, "r"); while (fgets(line, sizeof line, f)) sscanf(line, "sigmask: %lx", &mask); fclose(f);
    CHECK(mask != 0 && !(mask >> 63));
    signal(64, SIG_IGN); kill(getpid(), 64);
    CHECK(sigtimedwait(&full, &info, &t) == -1);
}
int main(void) {
    masks(); actions(); contexts(); takers();
    printf("%d failures\n", failures);
    return failures != 0;
}

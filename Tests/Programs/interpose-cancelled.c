// Threads that are cancelled in calls which the runtime wraps: the thread ends, its cleanup handlers run and the frames above the
// call are unwound (-fexceptions).  With SIGCKPT storms in between the calls are in their repeated form when the cancellation comes.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int destroyed, cleaned;
static volatile pid_t tid;
static void leave(int *unused) { (void)unused; destroyed++; }
static void clean(void *unused) { (void)unused; cleaned++; }
static int queue, epolls, pipes[2];
static void child(void) { if (fork() == 0) { sleep(5); _exit(0); } }
static void make(int which) {
    struct timespec t = { 5, 0 }; struct timeval v = { 5, 0 }; sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR2); siginfo_t info; struct epoll_event e; char text[16]; int n; fd_set f;
    sigset_t none; sigemptyset(&none);
    switch (which) {
    case 0: poll(0, 0, 5000); break;
    case 1: ppoll(0, 0, &t, &none); break;
    case 2: select(0, 0, 0, 0, &v); break;
    case 3: FD_ZERO(&f); FD_SET(pipes[0], &f); pselect(pipes[0] + 1, &f, 0, 0, 0, 0); break;
    case 4: epoll_wait(epolls, &e, 1, 5000); break;
    case 5: nanosleep(&t, 0); break;
    case 6: clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0); break;
    case 7: usleep(900000); usleep(900000); break;
    case 8: sleep(5); break;
    case 9: pause(); break;
    case 10: sigsuspend(&none); break;
    case 11: sigwait(&s, &n); break;
    case 12: sigwaitinfo(&s, &info); break;
    case 13: sigtimedwait(&s, &info, &t); break;
    case 14: msgrcv(queue, text, 8, 0, 0); break;
    case 15: system("sleep 5"); break;
    case 16: wait(0); break;
    case 17: waitpid(-1, 0, 0); break;
    case 18: waitid(P_ALL, 0, &info, WEXITED); break;
    case 19: if (read(pipes[0], text, 1) < 0) break; break;
    }
}
static const char *names[] = { "poll", "ppoll", "select", "pselect", "epoll_wait", "nanosleep", "clock_nanosleep", "usleep", "sleep", "pause", "sigsuspend",
    "sigwait", "sigwaitinfo", "sigtimedwait", "msgrcv", "system", "wait", "waitpid", "waitid", "read" };
static void *thread(void *which) {
    tid = (pid_t)syscall(SYS_gettid);
    int witness __attribute__((cleanup(leave))) = 0;
    pthread_cleanup_push(clean, 0);
    make((int)(long)which);
    pthread_cleanup_pop(0);
    return 0;
}
static void doze(long us) { struct timespec t = { 0, us * 1000 }; syscall(SYS_nanosleep, &t, 0); }
int main(int argc, char **argv) {
    int signal = argc > 1 ? atoi(argv[1]) : 0, failures = 0;
    queue = msgget(IPC_PRIVATE, 0600); epolls = epoll_create1(0); if (pipe(pipes)) return 2;
    sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR2); sigprocmask(SIG_BLOCK, &s, 0);
    if (argc > 2) child();
    for (int i = 0; i < 20; i++) {
        if (i == 16) child();
        destroyed = cleaned = 0; tid = 0;
        pthread_t t; void *result = 0;
        pthread_create(&t, 0, thread, (void *)(long)i);
        doze(20000);
        for (int k = 0; signal && k < 10; k++) { syscall(SYS_tgkill, getpid(), tid, signal); doze(1000); }
        struct timespec before, after; clock_gettime(CLOCK_MONOTONIC, &before);
        pthread_cancel(t); pthread_join(t, &result);
        clock_gettime(CLOCK_MONOTONIC, &after);
        double ms = (after.tv_sec - before.tv_sec) * 1e3 + (after.tv_nsec - before.tv_nsec) / 1e6;
        bool good = result == PTHREAD_CANCELED && destroyed == 1 && cleaned == 1 && ms < 500;
        if (!good) failures++;
        printf("%-16s %s canceled %d destroyed %d cleaned %d after %.1f ms\n", names[i], good ? "ok" : "WRONG", result == PTHREAD_CANCELED, destroyed, cleaned, ms);
    }
    struct sigaction a; sigaction(SIGINT, 0, &a); if (a.sa_handler != SIG_DFL) { printf("SIGINT not restored\n"); failures++; }
    msgctl(queue, IPC_RMID, 0);
    printf("%d failures\n", failures);
    kill(0, SIGCHLD);
    return failures != 0;
}

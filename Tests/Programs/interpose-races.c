// Each round waits for exactly one alarm whose handler has no SA_RESTART: the wait must end with EINTR, the handler having run once.
// SIGCKPT falls on the thread all the while, also between the alarm's handler and the return of the call.  A lost EINTR hangs and is
// ended by the second alarm, which is counted.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int ran, ended;
static int storm_signal, rounds = 400;
static pid_t target;
static void handler(int s) { (void)s; ran++; }
static void *storm(void *unused) {
    (void)unused; unsigned seed = 1;
    while (!ended) {
        syscall(SYS_tgkill, getpid(), target, storm_signal);
        struct timespec t = { 0, 1000 + rand_r(&seed) % 60000 };
        syscall(SYS_nanosleep, &t, 0);
    }
    return 0;
}
static void arm(long us) {
    // The interval rescues a round that lost its alarm.
    struct itimerval v = { { 0, 300000 }, { 0, us } };
    setitimer(ITIMER_REAL, &v, 0);
}
static void disarm(void) { struct itimerval v; memset(&v, 0, sizeof v); setitimer(ITIMER_REAL, &v, 0); }

static int pipes[2], sockets[2], epolls, queue;
static sem_t sem;
static sigset_t none;
static long make(int which) {
    char c; struct timespec t = { 20, 0 }; struct pollfd f = { pipes[0], POLLIN, 0 }; fd_set set; struct epoll_event e; struct { long type; char text[8]; } m;
    FD_ZERO(&set); FD_SET(pipes[0], &set);
    switch (which) {
    case 0: return sigsuspend(&none);
    case 1: return ppoll(&f, 1, &t, &none);
    case 2: return pselect(pipes[0] + 1, &set, 0, 0, &t, &none);
    case 3: return epoll_pwait(epolls, &e, 1, 20000, &none);
    case 4: return poll(&f, 1, 20000);
    case 5: return pause();
    case 6: return read(pipes[0], &c, 1);
    case 7: return nanosleep(&t, 0);
    case 8: return recv(sockets[0], &c, 1, 0);
    case 9: return sem_wait(&sem);
    case 10: return msgrcv(queue, &m, 8, 0, 0);
    case 11: return waitpid(-1, 0, 0);
    case 12: { struct timespec a; clock_gettime(CLOCK_REALTIME, &a); a.tv_sec += 20; return sem_timedwait(&sem, &a); }
    }
    return 0;
}
static const char *names[] = { "sigsuspend", "ppoll", "pselect", "epoll_pwait", "poll", "pause", "read", "nanosleep", "recv with time-out", "sem_wait", "msgrcv", "waitpid", "sem_timedwait" };
int main(int argc, char **argv) {
    storm_signal = argc > 1 ? atoi(argv[1]) : 64;
    if (argc > 2) rounds = atoi(argv[2]);
    target = getpid();
    struct sigaction a = { .sa_handler = handler }; sigaction(SIGALRM, &a, 0);
    if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) return 2;
    struct timeval v = { 20, 0 }; setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v);
    epolls = epoll_create1(0); queue = msgget(IPC_PRIVATE, 0600); sem_init(&sem, 0, 0);
    pid_t child = fork();
    if (!child) for (;;) pause();
    sigset_t alarm, old, all; sigfillset(&all); sigprocmask(SIG_BLOCK, &all, &old);       // the alarm is for the main thread
    pthread_t t; if (storm_signal) pthread_create(&t, 0, storm, 0);
    sigprocmask(SIG_SETMASK, &old, 0);
    sigemptyset(&none); sigemptyset(&alarm); sigaddset(&alarm, SIGALRM);
    int failures = 0;
    for (int which = 0; which < 13; which++) {
        int masked = which < 4, twice = 0, wrong = 0;
        for (int i = 0; i < (masked ? rounds : rounds / 2); i++) {
            ran = 0;
            if (masked) sigprocmask(SIG_BLOCK, &alarm, &old);
            arm(masked ? 1 + i % 300 : 3000 + i % 300);
            long r = make(which); int error = errno;
            disarm();
            if (r != -1 || error != EINTR || ran == 0) wrong++;
            if (ran > 1) twice++;
            if (masked) sigprocmask(SIG_SETMASK, &old, 0);
        }
        if (wrong || twice) failures++;
        printf("%-20s %s wrong %d lost %d\n", names[which], wrong || twice ? "WRONG" : "ok", wrong, twice);
        fflush(stdout);
    }
    ended = 1; if (storm_signal) pthread_join(t, 0);
    kill(child, SIGKILL); waitpid(child, 0, 0); msgctl(queue, IPC_RMID, 0);
    printf("%d failures\n", failures);
    return failures != 0;
}

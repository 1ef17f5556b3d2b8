// Every call that signal(7) lists, each made while a storm of one signal falls on its thread.  Prints a line per call: its name, "ok" or what
// it returned, and how late it was.  Argument 1: the signal; with SIGCKPT nothing may be seen of it.  A handler for any other
// signal is installed with SA_RESTART, which measures what Linux never restarts.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { WAIT = 80 };     // ms: how long each call has to wait
static int storm_signal, received;
static volatile int ended;
static pid_t target;
static void count(int s) { (void)s; received++; }
static void nothing(int s) { (void)s; }

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e3 + t.tv_nsec / 1e6; }
static struct timespec in(int clock, int ms) {
    struct timespec t; clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000l; t.tv_sec += t.tv_nsec / 1000000000; t.tv_nsec %= 1000000000;
    return t;
}
static void doze(int us) { struct timespec t = { 0, us * 1000 }; syscall(SYS_nanosleep, &t, 0); }
// How long the machine stood still since a call began, as the storm has felt it.
static volatile double stalled;
static void *storm(void *unused) {
    (void)unused;
    for (double before = now(), then; !ended; before = then) {
        syscall(SYS_tgkill, getpid(), target, storm_signal); doze(3000);
        then = now();
        if (then - before > 20) stalled += then - before;
    }
    return 0;
}
// A child that acts after WAIT ms, for calls that have no time-out: storms don't reach it.
static int later_fd; static const void *later_bytes; static int later_signal; static volatile int returned;
static void *later(void *unused) {
    (void)unused;
    for (double end = now() + WAIT; now() < end; ) doze(1000);
    // Again, if it came before the call.
    if (later_signal) do { syscall(SYS_tgkill, getpid(), target, later_signal); doze(20000); } while (!returned);
    else if (write(later_fd, later_bytes, 1) < 0) perror("write");
    return 0;
}

static int failures;
static void result(const char *name, double started, long value, long expected, int error) {
    double took = now() - started;
    const char *verdict = value == expected ? (took < WAIT - 1 ? "EARLY" : took - stalled > WAIT + 60 ? "LATE" : "ok") : "WRONG";
    if (strcmp(verdict, "ok")) failures++;
    printf("%-24s %-5s returned %ld errno %s after %.1f ms\n", name, verdict, value, value == -1 ? strerrorname_np(error) : "-", took);
    fflush(stdout);
}
#define CALL(name, expression, expected) do { \
    if (only && strcmp(only, name)) break; \
    stalled = 0; double started = now(); errno = 0; long value = (long)(expression); int error = errno; result(name, started, value, expected, error); \
} while (0)
// What ends by an event: another thread writes a byte or sends SIGUSR2.
#define EVENT(name, fd, signal, expression, expected) do { \
    if (only && strcmp(only, name)) break; \
    later_fd = fd; later_bytes = "x"; later_signal = signal; returned = 0; pthread_t t; \
    stalled = 0; double started = now(); pthread_create(&t, 0, later, 0); errno = 0; long value = (long)(expression); int error = errno; returned = 1; \
    result(name, started, value, expected, error); pthread_join(t, 0); \
} while (0)

static struct timeval tv(void) { return (struct timeval){ 0, WAIT * 1000 }; }
static struct timespec ts(void) { return (struct timespec){ 0, WAIT * 1000000l }; }
static const char *only;
static void one(fd_set *set, int fd) { FD_ZERO(set); FD_SET(fd, set); }
static void drain(int fd) { char byte; if (!only && read(fd, &byte, 1) < 0) exit(2); }
static void readiness(void) {
    int p[2]; if (pipe(p)) exit(2);
    struct pollfd f = { p[0], POLLIN, 0 };
    fd_set set; char byte; struct timespec t; struct timeval v;
    int e = epoll_create1(0); struct epoll_event event = { EPOLLIN, { 0 } };
    epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event);
    sigset_t none; sigemptyset(&none);
    CALL("poll", poll(&f, 1, WAIT), 0);
    CALL("poll no descriptors", poll(0, 0, WAIT), 0);
    EVENT("poll forever", p[1], 0, poll(&f, 1, -1), 1); drain(p[0]);
    CALL("ppoll", (t = ts(), ppoll(&f, 1, &t, 0)), 0);
    CALL("ppoll mask", (t = ts(), ppoll(&f, 1, &t, &none)), 0);
    CALL("select", (v = tv(), one(&set, p[0]), select(p[0] + 1, &set, 0, 0, &v)), 0);
    EVENT("select forever", p[1], 0, (one(&set, p[0]), select(p[0] + 1, &set, 0, 0, 0)), 1); drain(p[0]);
    CALL("pselect", (t = ts(), one(&set, p[0]), pselect(p[0] + 1, &set, 0, 0, &t, 0)), 0);
    CALL("pselect mask", (t = ts(), one(&set, p[0]), pselect(p[0] + 1, &set, 0, 0, &t, &none)), 0);
    CALL("epoll_wait", epoll_wait(e, &event, 1, WAIT), 0);
    EVENT("epoll_wait forever", p[1], 0, epoll_wait(e, &event, 1, -1), 1); drain(p[0]);
    CALL("epoll_pwait", epoll_pwait(e, &event, 1, WAIT, &none), 0);
    CALL("epoll_pwait2", (t = ts(), epoll_pwait2(e, &event, 1, &t, &none)), 0);
    EVENT("read pipe", p[1], 0, read(p[0], &byte, 1), 1);
}
static void sleeps(void) {
    struct timespec t;
    CALL("nanosleep", (t = ts(), nanosleep(&t, &t)), 0);
    CALL("clock_nanosleep", (t = ts(), clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0)), 0);
    CALL("clock_nanosleep realtime", (t = ts(), clock_nanosleep(CLOCK_REALTIME, 0, &t, 0)), 0);
    CALL("clock_nanosleep boottime", (t = ts(), clock_nanosleep(CLOCK_BOOTTIME, 0, &t, 0)), 0);
    CALL("clock_nanosleep absolute", (t = in(CLOCK_MONOTONIC, WAIT), clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0)), 0);
    CALL("clock_nanosleep abs real", (t = in(CLOCK_REALTIME, WAIT), clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0)), 0);
    CALL("usleep", usleep(WAIT * 1000), 0);
    CALL("thrd_sleep", (t = ts(), thrd_sleep(&t, 0)), 0);
    double started = now();
    if (!only || !strcmp(only, "sleep")) { long r = sleep(1); result("sleep", started + 1000 - WAIT, r, 0, errno); }
}
static void signals(void) {
    sigset_t waited, old; sigemptyset(&waited); sigaddset(&waited, SIGUSR2); siginfo_t info; struct timespec t; int s;
    sigprocmask(SIG_BLOCK, &waited, &old);
    CALL("sigtimedwait", (t = ts(), sigtimedwait(&waited, &info, &t) == -1 && errno == EAGAIN), 1);
    EVENT("sigwaitinfo", 0, SIGUSR2, sigwaitinfo(&waited, &info), SIGUSR2);
    EVENT("sigwait", 0, SIGUSR2, (sigwait(&waited, &s), s), SIGUSR2);
    EVENT("sigsuspend", 0, SIGUSR2, sigsuspend(&old), -1);
    sigset_t full; sigfillset(&full); sigdelset(&full, SIGUSR2);
    EVENT("sigsuspend full", 0, SIGUSR2, sigsuspend(&full), -1);
    sigprocmask(SIG_SETMASK, &old, 0);
    EVENT("pause", 0, SIGUSR2, pause(), -1);
    EVENT("sigpause", 0, SIGUSR2, sigpause(SIGHUP), -1);
    EVENT("poll by a handler", 0, SIGUSR2, poll(0, 0, 10 * WAIT) == -1 && errno == EINTR, 1);
    EVENT("sleep by a handler", 0, SIGUSR2, sleep(3), 2);
    EVENT("read by a handler", 0, SIGUSR2, ({ int p[2]; char c; if (pipe(p)) exit(2); read(p[0], &c, 1) == -1 && errno == EINTR; }), 1);
}
static void ipc(void) {
    int q = semget(IPC_PRIVATE, 1, 0600); struct sembuf op = { 0, -1, 0 }; struct timespec t;
    CALL("semtimedop", (t = ts(), semtimedop(q, &op, 1, &t) == -1 && errno == EAGAIN), 1);
    EVENT("semop", 0, SIGUSR2, semop(q, &op, 1) == -1 && errno == EINTR, 1);
    semctl(q, 0, IPC_RMID);
    int m = msgget(IPC_PRIVATE, 0600); struct { long type; char text[8192]; } message = { 1, "" };
    EVENT("msgrcv", 0, SIGUSR2, msgrcv(m, &message, 1, 0, 0) == -1 && errno == EINTR, 1);
    while (!msgsnd(m, &message, 8192, IPC_NOWAIT)) {}
    EVENT("msgsnd", 0, SIGUSR2, msgsnd(m, &message, 8192, 0) == -1 && errno == EINTR, 1);
    msgctl(m, IPC_RMID, 0);
    sem_t sem; sem_init(&sem, 0, 0);
    CALL("sem_timedwait", (t = in(CLOCK_REALTIME, WAIT), sem_timedwait(&sem, &t) == -1 && errno == ETIMEDOUT), 1);
    CALL("sem_clockwait", (t = in(CLOCK_MONOTONIC, WAIT), sem_clockwait(&sem, CLOCK_MONOTONIC, &t) == -1 && errno == ETIMEDOUT), 1);
    EVENT("sem_wait", 0, SIGUSR2, sem_wait(&sem) == -1 && errno == EINTR, 1);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&mutex);
    CALL("pthread_cond_timedwait", (t = in(CLOCK_REALTIME, WAIT), pthread_cond_timedwait(&cond, &mutex, &t)), ETIMEDOUT);
    CALL("pthread_mutex_timedlock", (t = in(CLOCK_REALTIME, WAIT), pthread_mutex_timedlock(&mutex, &t)), ETIMEDOUT);
    struct mq_attr a = { 0, 1, 8, 0, { 0 } }; char name[64], text[8] = ""; sprintf(name, "/ckpt-test-%d", getpid());
    mqd_t mq = mq_open(name, O_CREAT | O_RDWR, 0600, &a); mq_unlink(name);
    if (mq < 0) { printf("mq_open: %s\n", strerror(errno)); return; }
    CALL("mq_timedreceive", (t = in(CLOCK_REALTIME, WAIT), mq_timedreceive(mq, text, 8, 0, &t) == -1 && errno == ETIMEDOUT), 1);
    mq_send(mq, text, 8, 0);
    CALL("mq_timedsend", (t = in(CLOCK_REALTIME, WAIT), mq_timedsend(mq, text, 8, 0, &t) == -1 && errno == ETIMEDOUT), 1);
}
static void sockets(void) {
    int s[2], n = WAIT; char byte, big[65536] = ""; struct timeval v = tv(); (void)n;
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    EVENT("recv forever", s[1], 0, recv(s[0], &byte, 1, 0), 1);
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v); setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &v, sizeof v);
    struct iovec io = { &byte, 1 }; struct msghdr h = { 0, 0, &io, 1, 0, 0, 0 }; struct mmsghdr mm = { h, 0 };
    // A time-out of a socket begins again at a checkpoint: the storm must not outlast it, so these calls are ended by a byte.
    EVENT("recv timeout", s[1], 0, recv(s[0], &byte, 1, 0), 1);
    EVENT("recvfrom timeout", s[1], 0, recvfrom(s[0], &byte, 1, 0, 0, 0), 1);
    EVENT("recvmsg timeout", s[1], 0, recvmsg(s[0], &h, 0), 1);
    EVENT("recvmmsg timeout", s[1], 0, recvmmsg(s[0], &mm, 1, 0, 0), 1);
    EVENT("read timeout", s[1], 0, read(s[0], &byte, 1), 1);
    EVENT("readv timeout", s[1], 0, readv(s[0], &io, 1), 1);
    while (send(s[0], big, sizeof big, MSG_DONTWAIT) > 0) {}
    EVENT("send by a handler", 0, SIGUSR2, send(s[0], big, sizeof big, 0) == -1 && errno == EINTR, 1);
    EVENT("write by a handler", 0, SIGUSR2, write(s[0], big, sizeof big) == -1 && errno == EINTR, 1);
    struct sockaddr_un u = { AF_UNIX, "" }; sprintf(u.sun_path + 1, "ckpt-test-%d", getpid());
    int l = socket(AF_UNIX, SOCK_STREAM, 0); bind(l, (void *)&u, sizeof u); listen(l, 0);
    setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v);
    EVENT("accept by a handler", 0, SIGUSR2, accept(l, 0, 0) == -1 && errno == EINTR, 1);
    int c1 = socket(AF_UNIX, SOCK_STREAM, 0), c2 = socket(AF_UNIX, SOCK_STREAM, 0);
    connect(c1, (void *)&u, sizeof u); setsockopt(c2, SOL_SOCKET, SO_SNDTIMEO, &v, sizeof v);
    EVENT("connect by a handler", 0, SIGUSR2, connect(c2, (void *)&u, sizeof u) == -1 && errno == EINTR, 1);
}
static void others(void) {
    int i = inotify_init(); char b[4096], name[64]; sprintf(name, "/tmp/ckpt-test-%d", getpid());
    int f = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    inotify_add_watch(i, name, IN_MODIFY);
    EVENT("read inotify", f, 0, read(i, b, sizeof b) > 0, 1);
    int g = open(name, O_RDWR); flock(g, LOCK_EX);
    EVENT("flock by a handler", 0, SIGUSR2, flock(f, LOCK_EX) == -1 && errno == EINTR, 1);
    unlink(name);
    int v = eventfd(0, 0);
    EVENT("read eventfd handler", 0, SIGUSR2, read(v, b, 8) == -1 && errno == EINTR, 1);
    int status; pid_t p = fork();
    if (!p) { for (double end = now() + WAIT; now() < end; ) doze(1000); _exit(3); }
    CALL("waitpid", waitpid(p, &status, 0) == p && WEXITSTATUS(status) == 3, 1);
    p = fork();
    if (!p) for (;;) doze(100000);
    EVENT("waitid by a handler", 0, SIGUSR2, waitid(P_PID, p, 0, WEXITED) == -1 && errno == EINTR, 1);
    kill(p, SIGKILL); waitpid(p, 0, 0);
}
int main(int argc, char **argv) {
    storm_signal = argc > 1 ? atoi(argv[1]) : 64; only = argc > 2 ? argv[2] : 0;
    target = syscall(SYS_gettid);
    if (storm_signal != 64) { struct sigaction a = { .sa_handler = count, .sa_flags = SA_RESTART }; sigaction(storm_signal, &a, 0); }
    struct sigaction a = { .sa_handler = nothing }; sigaction(SIGUSR2, &a, 0);
    pthread_t t; pthread_create(&t, 0, storm, 0);
    readiness(); sleeps(); signals(); ipc(); sockets(); others();
    ended = 1; pthread_join(t, 0);
    printf("%d failures\n", failures);
    return failures != 0;
}

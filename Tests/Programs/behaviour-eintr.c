// Loops over the interruptible calls of signal(7), each with a time-out of its own: none may say EINTR, none may end early, until "go".
#include "scenario.h"
#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <linux/futex.h>
enum { MS = 60 };
static int up;
static int sems, queue;
static volatile uint32_t word;
static int pipes[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static const struct timespec ts = { 0, MS * 1000000 };
static struct timespec later(clockid_t c) { struct timespec t; clock_gettime(c, &t); t.tv_nsec += MS * 1000000; if (t.tv_nsec >= 1000000000) { t.tv_nsec -= 1000000000; t.tv_sec++; } return t; }
static int c_poll(void) { struct pollfd p = { pipes[0], POLLIN, 0 }; return poll(&p, 1, MS); }
static int c_ppoll(void) { struct pollfd p = { pipes[0], POLLIN, 0 }; sigset_t s; sigemptyset(&s); return ppoll(&p, 1, &ts, &s); }
static int c_select(void) { fd_set f; FD_ZERO(&f); FD_SET(pipes[0], &f); struct timeval t = { 0, MS * 1000 }; return select(pipes[0] + 1, &f, NULL, NULL, &t); }
static int c_pselect(void) { fd_set f; FD_ZERO(&f); FD_SET(pipes[0], &f); sigset_t s; sigemptyset(&s); return pselect(pipes[0] + 1, &f, NULL, NULL, &ts, &s); }
static int c_nanosleep(void) { struct timespec r; return nanosleep(&ts, &r); }
static int c_clock_nanosleep(void) { struct timespec r; return errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &r), errno ? -1 : 0; }
static int c_clock_absolute(void) { struct timespec t = later(CLOCK_REALTIME); return errno = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL), errno ? -1 : 0; }
static int c_usleep(void) { return usleep(MS * 1000); }
static int c_sleep(void) { int left = sleep(1); errno = left ? EINTR : 0; return left ? -1 : 0; }
static int c_sigtimedwait(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR2); siginfo_t i; return sigtimedwait(&s, &i, &ts); }
static int c_semtimedop(void) { struct sembuf b = { 0, -1, 0 }; return semtimedop(sems, &b, 1, &ts); }
static int c_sem_timedwait(void) { sem_t s; sem_init(&s, 0, 0); struct timespec t = later(CLOCK_REALTIME); return sem_timedwait(&s, &t); }
static int c_sem_clockwait(void) { sem_t s; sem_init(&s, 0, 0); struct timespec t = later(CLOCK_MONOTONIC); return sem_clockwait(&s, CLOCK_MONOTONIC, &t); }
static int c_condition(void) {
    struct timespec t = later(CLOCK_REALTIME);
    pthread_mutex_lock(&mutex);
    int e = pthread_cond_timedwait(&condition, &mutex, &t);
    pthread_mutex_unlock(&mutex);
    errno = e;
    return e ? -1 : 0;
}
static int c_read(void) {          // a writer that comes after MS
    int p[2], n = -1;
    must(pipe(p));
    pid_t child = must(fork());
    if (!child) { nanosleep(&ts, NULL); write(p[1], "x", 1); _exit(3); }
    char x;
    n = read(p[0], &x, 1);
    int e = errno;
    close(p[0]); close(p[1]);
    errno = e;
    int status;
    if (n != 1) return -1;
    if (waitpid(child, &status, 0) != child) return -1;
    return WEXITSTATUS(status) == 3 ? 0 : -1;
}
static int c_waitid(void) {
    pid_t child = must(fork());
    if (!child) { nanosleep(&ts, NULL); _exit(4); }
    siginfo_t i;
    return waitid(P_PID, child, &i, WEXITED) < 0 || i.si_status != 4 ? -1 : 0;
}
static int c_msgrcv(void) {
    pid_t child = must(fork());
    struct { long type; char text[8]; } m = { pthread_self() & 0x7fffffff, "x" };
    if (!child) { nanosleep(&ts, NULL); msgsnd(queue, &m, 8, 0); _exit(0); }
    int n = msgrcv(queue, &m, 8, m.type, 0), e = errno;
    int status;
    waitpid(child, &status, 0);
    errno = e;
    return n == 8 ? 0 : -1;
}
static int c_suspend(void) {        // ended by a signal of the application, which must be seen
    sigset_t s;
    pthread_sigmask(SIG_BLOCK, NULL, &s);
    sigdelset(&s, SIGRTMIN + 7);
    timer_t t;
    struct sigevent e = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 7 };
    e._sigev_un._tid = syscall(SYS_gettid);
    must(timer_create(CLOCK_MONOTONIC, &e, &t));
    struct itimerspec i = { { 0, 0 }, ts };
    must(timer_settime(t, 0, &i, NULL));
    int r = sigsuspend(&s), wrong = r != -1 || errno != EINTR;
    timer_delete(t);
    errno = 0;
    return wrong ? -1 : 0;
}
static void on_timer(int s) { (void)s; }
static const struct { const char *name; int (*call)(void); int timeout_errno, minimum; } calls[] = {
    { "poll", c_poll, 0, MS }, { "ppoll", c_ppoll, 0, MS }, { "select", c_select, 0, MS }, { "pselect", c_pselect, 0, MS }, { "nanosleep", c_nanosleep, 0, MS },
    { "clock_nanosleep", c_clock_nanosleep, 0, MS }, { "clock_nanosleep absolute", c_clock_absolute, 0, MS }, { "usleep", c_usleep, 0, MS }, { "sleep", c_sleep, 0, 1000 },
    { "sigtimedwait", c_sigtimedwait, EAGAIN, MS }, { "semtimedop", c_semtimedop, EAGAIN, MS }, { "sem_timedwait", c_sem_timedwait, ETIMEDOUT, MS },
    { "sem_clockwait", c_sem_clockwait, ETIMEDOUT, MS }, { "pthread_cond_timedwait", c_condition, ETIMEDOUT, MS }, { "read", c_read, 0, 0 }, { "waitid", c_waitid, 0, 0 },
    { "msgrcv", c_msgrcv, 0, 0 }, { "sigsuspend", c_suspend, 0, MS },
};
enum { N = sizeof calls / sizeof calls[0] };
static volatile long rounds[N];
static void *body(void *argument) {
    long k = (long)argument;
    __atomic_add_fetch(&up, 1, __ATOMIC_RELEASE);
    while (!scenario_exists("go")) {
        double start = scenario_now();
        errno = 0;
        int r = calls[k].call(), e = errno;
        double took = scenario_now() - start;
        if (calls[k].timeout_errno ? r != -1 || e != calls[k].timeout_errno : r != 0) scenario_differs("%s: %d %s", calls[k].name, r, strerror(e));
        if (took * 1000 < calls[k].minimum - 2) scenario_differs("%s: ended after %.1f ms of %d", calls[k].name, took * 1000, calls[k].minimum);
        if (took > 5) scenario_differs("%s: took %.1f s", calls[k].name, took);
        rounds[k]++;
    }
    return NULL;
}
int main(void) {
    must(pipe(pipes));
    sems = must(semget(IPC_PRIVATE, 1, 0600));
    queue = must(msgget(IPC_PRIVATE, 0600));
    struct sigaction a = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
    sigaction(SIGRTMIN + 7, &a, NULL);
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    sigaddset(&s, SIGRTMIN + 7);
    sigprocmask(SIG_BLOCK, &s, NULL);
    pthread_t t[N];
    for (long i = 0; i < N; i++) must0(pthread_create(&t[i], NULL, body, (void *)i));
    while (__atomic_load_n(&up, __ATOMIC_ACQUIRE) < N) usleep(1000);
    scenario_wait();
    for (int i = 0; i < N; i++) { pthread_join(t[i], NULL); check(rounds[i] > 0); }
    semctl(sems, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
    return scenario_end();
}

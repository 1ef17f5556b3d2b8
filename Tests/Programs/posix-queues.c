// POSIX message queues: messages in their order with their priorities, attributes, flags, modes, sharing, and whom they notify.
#include "systemv.h"
#include <mqueue.h>
static char name[4][64];
static const char *named(int n) { snprintf(name[n], sizeof name[n], "/ckpt-queue-%d-%d", getpid(), n); systemv_note('p', name[n]); return name[n]; }
static void expect(mqd_t q, const char *text, unsigned priority) {
    char b[200]; unsigned p = 99;
    long n = mq_receive(q, b, sizeof b, &p);
    check(n == (long)strlen(text) && !memcmp(b, text, n)); same(priority, p);
}
int main(void) {
    struct mq_attr a = { .mq_maxmsg = 6, .mq_msgsize = 200 }, now;
    mqd_t q = must(mq_open(named(0), O_RDWR | O_CREAT | O_EXCL, 0640, &a)), gone = must(mq_open(named(1), O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &a));
    mqd_t told = must(mq_open(named(2), O_RDWR | O_CREAT | O_EXCL, 0600, &a)), waits = must(mq_open(named(3), O_RDWR | O_CREAT | O_EXCL, 0600, &a));
    mqd_t only = must(mq_open(name[0], O_RDONLY | O_NONBLOCK));
    must(mq_unlink(name[1]));
    must(mq_send(q, "low", 3, 1)); must(mq_send(q, "high", 4, 7)); must(mq_send(q, "", 0, 7)); must(mq_send(q, "low2", 4, 1));
    must(mq_send(gone, "unnamed", 7, 0));
    must(fchmod(q, 0440));
    // Notified by a signal that carries a value, once the queue is no longer empty.
    sigset_t set; sigemptyset(&set); sigaddset(&set, SIGRTMIN + 4); sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4, .sigev_value.sival_int = 4711 };
    must(mq_notify(told, &e));
    struct sigevent full = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 12 };
    must(mq_notify(q, &full));                       // it has messages: not before it was empty
    struct sigevent silent = { .sigev_notify = SIGEV_NONE };
    must(mq_notify(gone, &silent));
    pid_t child = must(fork());
    if (!child) {
        scenario_touch("child");
        char b[200];
        same(4, mq_receive(waits, b, sizeof b, NULL));       // waits through the checkpoint
        must(mq_send(told, "tell", 4, 0));
        scenario_leave(4);
    }
    scenario_await("child");
    usleep(50000);
    scenario_wait();
    struct stat st; must(fstat(q, &st)); same(0440, st.st_mode & 0777);
    must(mq_getattr(q, &now)); same(6, now.mq_maxmsg); same(200, now.mq_msgsize); same(4, now.mq_curmsgs); same(0, now.mq_flags & O_NONBLOCK);
    must(mq_getattr(gone, &now)); same(O_NONBLOCK, now.mq_flags & O_NONBLOCK);
    must(mq_getattr(only, &now)); same(4, now.mq_curmsgs);
    check(mq_send(only, "x", 1, 0) < 0 && errno == EBADF);
    struct timespec none = { 0, 0 }, second = { 10, 0 };
    check(sigtimedwait(&set, NULL, &none) < 0);      // nobody has been told anything yet
    expect(only, "high", 7); expect(q, "", 7); expect(q, "low", 1); expect(q, "low2", 1);
    char b[200]; check(mq_receive(only, b, sizeof b, NULL) < 0 && errno == EAGAIN);
    check(mq_notify(gone, &silent) < 0 && errno == EBUSY);    // still registered
    must(mq_notify(gone, NULL)); must(mq_notify(gone, &silent));
    expect(gone, "unnamed", 0);
    check(mq_open(name[1], O_RDONLY) < 0);
    siginfo_t info;
    must(mq_send(q, "again", 5, 0));
    same(SIGUSR2, sigtimedwait(&set, &info, &second)); same(12, info.si_value.sival_int); same(SI_MESGQ, info.si_code);
    must(mq_send(waits, "done", 4, 0));
    scenario_child(child, 4);
    same(SIGRTMIN + 4, sigtimedwait(&set, &info, &second)); same(4711, info.si_value.sival_int); same(child, info.si_pid);
    expect(told, "tell", 0);
    must(mq_unlink(name[0])); must(mq_unlink(name[2])); must(mq_unlink(name[3]));
    return scenario_end();
}

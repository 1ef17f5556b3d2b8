// Pid namespaces inside of a tree: one with a first process, threads, a session, a zombie and one more namespace in it; one that nobody has been born in
// yet; one whose first process has ended.
#include "scenario.h"
#include <sys/mount.h>
static const char *ids(char *out, size_t size) {
    char line[3][256];
    const char *keys[] = { "NStgid:", "NSpgid:", "NSsid:" };
    for (int i = 0; i < 3; i++) scenario_line("/proc/self/status", keys[i], line[i], 256);
    snprintf(out, size, "%d %d %d %d %ld %s %s %s", getpid(), getppid(), getpgrp(), getsid(0), syscall(SYS_gettid), line[0], line[1], line[2]);
    return out;
}
struct seen { char text[1024]; };
static void see(struct seen *s) { ids(s->text, sizeof s->text); }
static void see_again(struct seen *s, const char *who) {
    char now[1024];
    if (strcmp(ids(now, sizeof now), s->text)) scenario_differs("%s is %s, was %s", who, now, s->text);
}
static void *thread(void *v) {
    pid_t before = gettid();
    scenario_touch("thread");
    scenario_await("go");
    same(before, gettid());
    return (void *)(long)before;
}
static pid_t waiting(const char *name, const char *until, int status, int leads) {
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    if (leads) must(setsid());
    struct seen s;
    see(&s);
    scenario_touch(name);
    scenario_await(until);
    see_again(&s, name);
    scenario_leave(status);
    return 0;
}
// The first process of a namespace.
static void first(void) {
    struct seen s;
    pthread_t t;
    same(1, getpid());
    must0(pthread_create(&t, NULL, thread, NULL));
    scenario_await("thread");
    pid_t a = waiting("a", "go", 3, 0), b = waiting("b", "go", 4, 1);
    pid_t zombie = must(fork());
    if (!zombie) _exit(9);
    siginfo_t info;
    must(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT));
    pid_t deeper = must(fork());
    if (!deeper) {
        must(unshare(CLONE_NEWPID));
        pid_t second = must(fork());
        if (!second) {
            struct seen inner;
            same(1, getpid());
            pid_t c = waiting("c", "go", 5, 0);
            see(&inner);
            scenario_touch("second");
            scenario_await("go");
            see_again(&inner, "second");
            same(2, c);
            scenario_child(c, 5);
            scenario_leave(6);
        }
        scenario_await("second");
        scenario_touch("deeper");
        scenario_await("go");
        scenario_child(second, 6);
        scenario_leave(7);
    }
    scenario_await("deeper");
    see(&s);
    scenario_touch("first");
    scenario_await("go");
    see_again(&s, "first");
    must0(pthread_join(t, NULL));
    scenario_child(a, 3); scenario_child(b, 4); scenario_child(deeper, 7);
    scenario_child(zombie, 9);
    pid_t next = must(fork());
    if (!next) _exit(0);
    check(next > deeper);
    scenario_child(next, 0);
    scenario_touch("first-done");
    scenario_await("never");
}
static pid_t parent(const char *name, int kind) {
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    if (kind == 3) must(setsid());
    must(unshare(CLONE_NEWPID));
    pid_t one = 0, two = 0;
    if (kind != 1 && !(one = must(fork()))) { if (kind == 2) _exit(0); first(); _exit(9); }
    if (kind == 2) scenario_child(one, 0);
    if (kind == 3) {
        scenario_await("first");
        two = waiting("second-child", "go", 2, 0);
    }
    scenario_touch(name);
    scenario_await("go");
    if (kind == 1) {
        pid_t f = must(fork());
        if (!f) { same(1, getpid()); scenario_leave(11); }
        scenario_child(f, 11);
    }
    if (kind == 2) { errno = 0; check(fork() == -1 && errno == ENOMEM); }
    if (kind == 3) {
        scenario_child(two, 2);
        scenario_await("first-done");
        pid_t late = must(fork());
        if (!late) { check(getppid() == 0 && getpid() > 1); scenario_await("never"); }
        must(kill(one, SIGKILL));       // takes all with it, and ends when those outside have been waited for
        int status = 0;
        same(late, waitpid(late, &status, 0));
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        same(one, waitpid(one, &status, 0));
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    scenario_leave(20 + kind);
    return 0;
}
// In the group of a sibling, which does not show inside.
static pid_t member(pid_t leader) {
    pid_t child = must(fork());
    if (child) { scenario_await("member"); return child; }
    must(setpgid(0, leader));
    must(unshare(CLONE_NEWPID));
    pid_t inner = waiting("inner", "go", 12, 0);
    scenario_touch("member");
    scenario_await("go");
    same(leader, getpgrp());
    same(leader, getpgid(inner));
    scenario_child(inner, 12);
    scenario_leave(24);
    return 0;
}
int main(void) {
    pid_t leader = must(fork());
    if (!leader) { must(setpgid(0, 0)); scenario_touch("leader"); scenario_await("go"); scenario_leave(25); }
    scenario_await("leader");
    pid_t joined = member(leader);
    pid_t fresh = parent("fresh", 1), dead = parent("dead", 2), full = parent("full", 3);
    scenario_wait();
    scenario_child(joined, 24); scenario_child(leader, 25);
    scenario_child(fresh, 21); scenario_child(dead, 22); scenario_child(full, 23);
    return scenario_end();
}

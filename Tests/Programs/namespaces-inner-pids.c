// A pid namespace that belongs to the user namespace of a child: its first process has threads, children and a zombie.
// An argument makes one more of both inside of that, or has clone(2) make both at once.
#include "namespaces-users.h"
#include <sys/socket.h>
static char kind = 'u';
static void *thread(void *unused) {
    pid_t tid = gettid();
    scenario_touch("thread"); scenario_await("go");
    same(tid, gettid());
    return unused;
}
static pid_t waiting(const char *name, int leads) {
    char before[3][256], now[256], id[8192];
    const char *keys[] = { "NSpid:", "NSpgid:", "NSsid:" };
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    if (leads) must(setsid());
    identity(id);
    for (int i = 0; i < 3; i++) scenario_line("/proc/self/status", keys[i], before[i], 256);
    scenario_touch(name); scenario_await("go");
    same_identity(name, id);
    for (int i = 0; i < 3; i++) if (strcmp(scenario_line("/proc/self/status", keys[i], now, 256), before[i])) scenario_differs("%s: %s, was %s", name, now, before[i]);
    scenario_leave(3);
    return 0;
}
static pid_t container(const char *name, int depth);
static void first(const char *name, int depth) {
    char child[2][32], before[8192];
    pthread_t t;
    int pair[2];
    same(1, getpid());
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    snprintf(child[0], 32, "%s-a", name); snprintf(child[1], 32, "%s-b", name);
    must0(pthread_create(&t, NULL, thread, NULL));
    pid_t a = waiting(child[0], 0), b = waiting(child[1], 1), inner = depth > 1 ? container("inner", depth - 1) : 0, zombie = must(fork());
    if (!zombie) _exit(9);
    siginfo_t info;
    must(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT));
    identity(before);
    scenario_await("thread");
    scenario_touch(name); scenario_await("go");
    same_identity(name, before);
    owned_here("pid");
    struct ucred who;
    socklen_t size = sizeof who;
    must(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &who, &size));
    same(1, who.pid); same(0, who.uid);
    same(1, getpid());
    must0(pthread_join(t, NULL));
    scenario_child(a, 3); scenario_child(b, 3); scenario_child(zombie, 9);
    if (inner) scenario_child(inner, 6);
    pid_t next = must(fork());
    if (!next) _exit(0);
    check(next > zombie);
    scenario_child(next, 0);
    scenario_leave(5);
}
static pid_t container(const char *name, int depth) {
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    if (kind == 'c') {
        char path[64], line[64];
        const char *files[] = { "setgroups", "uid_map", "gid_map" };
        int told[2];
        must(pipe(told));
        child = must(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
        if (!child) { must(read(told[0], line, 1)); close(told[0]); close(told[1]); first(name, depth); }
        for (int i = 0; i < 3; i++) {
            sprintf(path, "/proc/%d/%s", child, files[i]); sprintf(line, "0 %d 1", i == 1 ? geteuid() : getegid());
            put(path, i ? line : "deny");
        }
        must(write(told[1], "", 1)); close(told[0]); close(told[1]);
    } else {
        enter_alone(CLONE_NEWPID);
        child = must(fork());
        if (!child) first(name, depth);
    }
    scenario_child(child, 5);
    scenario_leave(6);
    return 0;
}
int main(int argc, char **argv) {
    if (argc > 1) kind = argv[1][0];
    pid_t child = container("outer", kind == 'w' ? 2 : 1);
    scenario_wait();
    scenario_child(child, 6);
    return scenario_end();
}

// As `unshare --pid --fork --mount-proc` starts a program: it is process 1, sees a /proc of its own, and its parent outside only waits for it.
// "twice": a child is started so by a program that is started so, each in a user namespace of its own.
#include "scenario.h"
static int processes(void) {
    int n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] >= '1' && e->d_name[0] <= '9';
    if (d) closedir(d);
    return n;
}
int main(int argc, char **argv) {
    char self[512];
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    if (argc == 1 && geteuid()) execlp("unshare", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", self, "inside", NULL);
    if (argc == 1) execlp("unshare", "unshare", "--pid", "--fork", "--mount-proc", self, "inside", NULL);
    if (argc == 2 && !strcmp(argv[1], "twice")) {
        pid_t child = must(fork());
        if (child) { scenario_child(child, 0); return scenario_bad; }
        execlp("unshare", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", self, "inside", NULL);
    }
    if (argc == 1 || strcmp(argv[1], "inside")) return 9;
    char line[2][256];
    same(1, getpid());
    pid_t child = must(fork());
    if (!child) {
        scenario_touch("child");
        scenario_await("go");
        same(2, getpid());
        same(1, getppid());
        scenario_leave(3);
    }
    same(2, child);
    scenario_await("child");
    pid_t killed = must(fork());
    if (!killed) { for (;;) pause(); }
    kill(killed, SIGTERM);
    siginfo_t info;
    must(waitid(P_PID, killed, &info, WEXITED | WNOWAIT));
    int before = processes();
    scenario_wait();
    same(1, getpid());
    same(before > 3 ? 3 : before, processes());
    check(!strcmp(scenario_line("/proc/self/status", "Pid:", line[0], 256), "Pid:\t1"));
    check(!strcmp(scenario_line("/proc/2/status", "PPid:", line[1], 256), "PPid:\t1"));
    scenario_child(child, 3);
    int status = 0;
    same(killed, waitpid(killed, &status, 0));
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    return scenario_end();
}

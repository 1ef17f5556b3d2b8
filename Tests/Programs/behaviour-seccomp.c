// A child under strict seccomp: any signal handler's system call would kill it.  It answers on a pipe until the end.
#include "scenario.h"
int main(void) {
    int to[2], from[2];
    must(pipe(to)); must(pipe(from));
    pid_t child = must(fork());
    if (!child) {
        close(to[1]); close(from[0]);
        prctl(PR_SET_SECCOMP, 1);
        char x;
        while (read(to[0], &x, 1) == 1) { x++; write(from[1], &x, 1); }
        syscall(SYS_exit, 8);
    }
    close(to[0]); close(from[1]);
    char x = 'a', y = 0;
    must(write(to[1], &x, 1));
    must(read(from[0], &y, 1));
    same('b', y);
    char name[32];
    snprintf(name, sizeof name, "child-%d", child);
    scenario_touch(name);
    scenario_wait();
    must(write(to[1], &x, 1));
    same(1, read(from[0], &y, 1));
    same('b', y);
    close(to[1]);
    scenario_child(child, 8);
    return scenario_end();
}

// The nice value of a terminal session as a whole (sched(7), autogroups), with its leader, and of one whose leader has gone.
#include "scenario.h"
static int nice_of_session(void) {
    char text[64] = "";
    int fd = must(open("/proc/self/autogroup", O_RDONLY | O_CLOEXEC));
    must(read(fd, text, 63));
    close(fd);
    char *n = strstr(text, "nice");
    return n ? atoi(n + 4) : 99;
}
// The kernel lets a user set one in 100 ms.
static void set_nice(const char *value) {
    int fd = must(open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC));
    for (int i = 0; write(fd, value, strlen(value)) < 0 && i < 100; i++) usleep(50000);
    close(fd);
}
int main(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int mine = nice_of_session();
    pid_t leader = must(fork());
    if (!leader) {
        must(setsid());
        set_nice("7");
        same(7, nice_of_session());
        scenario_touch("leader");
        scenario_await("go");
        same(7, nice_of_session());
        scenario_leave(5);
    }
    pid_t gone = must(fork());
    if (!gone) {
        must(setsid());
        set_nice("3");
        if (must(fork())) _exit(6);
        scenario_touch("left");
        scenario_await("go");
        same(3, nice_of_session());
        scenario_leave(7);
    }
    scenario_child(gone, 6);
    scenario_await("leader");
    scenario_await("left");
    scenario_wait();
    same(mine, nice_of_session());
    scenario_child(leader, 5);
    int status = 0;
    check(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return scenario_end();
}

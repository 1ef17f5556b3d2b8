// A fork that execs: its new image is in the tree, with its arguments and environment.
#include "scenario.h"
int main(int argc, char **argv) {
    if (argc > 1) {
        pid_t me = getpid(), parent = getppid();
        scenario_touch("child");
        scenario_await("go");
        check(!strcmp(argv[1], "child") && !strcmp(argv[2], "with arguments") && getenv("EXTRA") && !strcmp(getenv("EXTRA"), "value"));
        same(me, getpid());
        same(parent, getppid());
        scenario_leave(23);
    }
    pid_t child = must(fork());
    if (!child) {
        setenv("EXTRA", "value", 1);
        execl("/proc/self/exe", argv[0], "child", "with arguments", NULL);
        _exit(95);
    }
    scenario_await("child");
    scenario_wait();
    scenario_child(child, 23);
    return scenario_end();
}

// A member whose parent has gone: it was given to somebody outside the tree, and goes on all the same.
#include "scenario.h"
int main(void) {
    pid_t middle = must(fork());
    if (!middle) {
        if (!must(fork())) {
            pid_t me = getpid(), group = getpgrp(), session = getsid(0);
            while (getppid() == middle) usleep(1000);
            usleep(20000);
            scenario_touch("orphan");
            scenario_await("go");
            same(me, getpid());
            same(group, getpgrp());
            same_session(session, getsid(0), 0);
            scenario_touch(scenario_bad ? "orphan-bad" : "orphan-good");
            scenario_leave(0);
        }
        _exit(3);
    }
    scenario_child(middle, 3);
    scenario_await("orphan");
    scenario_wait();
    check(wait(NULL) == -1 && errno == ECHILD);
    for (int i = 0; i < 1000 && !scenario_exists("orphan-good"); i++) usleep(5000);
    check(scenario_exists("orphan-good"));
    return scenario_end();
}

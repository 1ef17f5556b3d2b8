// A sub-reaper that waits for any child gets its adopted grandchild, and nothing else.
#include "scenario.h"
int main(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t middle = must(fork());
    if (!middle) {
        if (!must(fork())) {
            scenario_touch("grandchild");
            scenario_await("go");
            scenario_leave(31);
        }
        _exit(3);
    }
    scenario_child(middle, 3);
    scenario_await("grandchild");
    scenario_wait();
    int reaper = 0, status = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &reaper);
    same(1, reaper);
    pid_t got = wait(&status);
    check(got > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 31);
    check(waitpid(-1, &status, __WALL) == -1 && errno == ECHILD);
    return scenario_end();
}

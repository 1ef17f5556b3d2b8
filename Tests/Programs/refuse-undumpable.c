// A daemon that nobody of its user may look at, and whose parent has gone.
#include "scenario.h"
int main(void) {
    pid_t middle = must(fork());
    if (!middle) {
        if (must(fork())) _exit(3);
        must(setsid());
        must(prctl(PR_SET_DUMPABLE, 0));
        scenario_touch("daemon");
        scenario_await("go");
        scenario_touch("ended");
        _exit(0);
    }
    scenario_child(middle, 3);
    scenario_await("daemon");
    scenario_wait();
    scenario_await("ended");
    return scenario_end();
}

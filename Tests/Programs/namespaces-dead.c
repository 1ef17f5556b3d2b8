// The first process of a pid namespace of the tree's own has ended, nobody has waited for it, and nobody else lives there.
#include "scenario.h"
#include <sched.h>
int main(void) {
    must(unshare(CLONE_NEWPID));
    pid_t child = must(fork());
    if (!child) _exit(7);
    siginfo_t info;
    must(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    scenario_wait();
    same(getpgid(0), getpgid(child)); same(getsid(0), getsid(child));
    scenario_child(child, 7);
    return scenario_end();
}

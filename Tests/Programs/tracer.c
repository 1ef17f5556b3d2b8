// Attaches to the process of its argument as a debugger does, says so, and holds it until "detach".
#include "scenario.h"
#include <sys/ptrace.h>
int main(int argc, char **argv) {
    (void)argc;
    pid_t pid = atoi(argv[1]);
    int status;
    must(ptrace(PTRACE_SEIZE, pid, 0, 0));
    must(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    must(waitpid(pid, &status, __WALL));
    scenario_touch("attached");
    scenario_await("detach");
    must(ptrace(PTRACE_DETACH, pid, 0, 0));
    return 0;
}

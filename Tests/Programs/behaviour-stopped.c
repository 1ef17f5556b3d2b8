// A child stopped by job control is checkpointed as stopped, and comes back stopped.
#include "scenario.h"
static char state(pid_t pid) { char path[64], line[256]; snprintf(path, sizeof path, "/proc/%d/status", pid); scenario_line(path, "State:", line, sizeof line); return line[7]; }
int main(void) {
    pid_t child = must(fork());
    if (!child) {
        int n = 0;
        raise(SIGSTOP);
        n++;
        scenario_leave(n == 1 ? 21 : 22);
    }
    int status;
    same(child, waitpid(child, &status, WUNTRACED));
    check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    scenario_wait();
    char now = 0;
    for (int i = 0; i < 400 && (now = state(child)) != 'T'; i++) usleep(5000);
    same('T', now);
    same(0, waitpid(child, &status, WNOHANG));
    must(kill(child, SIGCONT));
    scenario_child(child, 21);
    return scenario_end();
}

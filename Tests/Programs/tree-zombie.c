// Children that ended and are not waited for: statuses of both kinds, and the number of them.
#include "scenario.h"
int main(void) {
    pid_t exited = must(fork());
    if (!exited) _exit(7);
    pid_t killed = must(fork());
    if (!killed) { pause(); _exit(1); }
    pid_t plain = must(fork());
    if (!plain) _exit(0);
    kill(killed, SIGTERM);
    siginfo_t info;
    must(waitid(P_PID, exited, &info, WEXITED | WNOWAIT));
    must(waitid(P_PID, killed, &info, WEXITED | WNOWAIT));
    must(waitid(P_PID, plain, &info, WEXITED | WNOWAIT));
    scenario_wait();
    memset(&info, 0, sizeof info);
    check(waitid(P_PID, killed, &info, WEXITED | WNOWAIT) == 0);
    same(killed, info.si_pid);
    same(CLD_KILLED, info.si_code);
    same(SIGTERM, info.si_status);
    scenario_child(exited, 7);
    int status = 0;
    same(killed, waitpid(killed, &status, 0));
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    scenario_child(plain, 0);
    check(wait(NULL) == -1 && errno == ECHILD);
    return scenario_end();
}

// Stopped children that somebody outside continues at the instant of a checkpoint: one runs on, one is stopped again by SIGTSTP, and its parent is told.
#include "scenario.h"
static void *idle(void *x) { for (;;) pause(); }
static pid_t stopped_child(int status) {
    pid_t pid = must(fork());
    if (!pid) {
        pthread_t t;
        if (status == 41) pthread_create(&t, NULL, idle, NULL);
        setpgid(0, 0);          // its leader's parent is in another: SIGTSTP stops it
        raise(SIGSTOP);
        scenario_await("go");
        scenario_leave(status);
    }
    int raw;
    same(pid, waitpid(pid, &raw, WUNTRACED));
    check(WIFSTOPPED(raw));
    return pid;
}

int main(void) {
    pid_t on = stopped_child(40), again = stopped_child(41);
    FILE *f = fopen(scenario_path("pids"), "w");
    fprintf(f, "%d %d", on, again);
    fclose(f);
    scenario_wait();
    scenario_child(on, 40);
    int raw;
    same(again, waitpid(again, &raw, WUNTRACED));
    check(WIFSTOPPED(raw) && WSTOPSIG(raw) == SIGTSTP);
    must(kill(again, SIGCONT));
    scenario_child(again, 41);
    return scenario_end();
}

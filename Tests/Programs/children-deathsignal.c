// PR_SET_PDEATHSIG of several threads of a child: each has its own, and they come when the parent ends.
#include "scenario.h"
static volatile sig_atomic_t got[65];
static void note(int s) { got[s]++; }
static volatile int set;
static void *thread(void *x) {
    int mine = (int)(long)x, now = 0;
    must(prctl(PR_SET_PDEATHSIG, mine));
    __atomic_add_fetch(&set, 1, __ATOMIC_SEQ_CST);
    scenario_await("go");
    must(prctl(PR_GET_PDEATHSIG, &now));
    same(mine, now);
    __atomic_sub_fetch(&set, 1, __ATOMIC_SEQ_CST);
    for (;;) pause();
}
int main(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t middle = must(fork());
    if (!middle) {
        pid_t last = must(fork());
        if (!last) {
            int signals[] = { SIGUSR1, SIGUSR2, 0, SIGRTMIN + 5 };
            pthread_t t;
            for (int i = 0; i < 4; i++) {
                if (signals[i]) signal(signals[i], note);
                pthread_create(&t, NULL, thread, (void *)(long)signals[i]);
            }
            signal(SIGTERM, note);
            must(prctl(PR_SET_PDEATHSIG, SIGTERM));
            while (set < 4) usleep(1000);
            scenario_touch("child");
            scenario_await("go");
            int now = 0;
            must(prctl(PR_GET_PDEATHSIG, &now));
            same(SIGTERM, now);
            while (set > 0) usleep(1000);
            for (int i = 1; i < 65; i++) same(0, got[i]);
            scenario_touch("leave");
            for (int i = 0; i < 1000 && !(got[SIGTERM] && got[SIGUSR1] && got[SIGUSR2] && got[SIGRTMIN + 5]); i++) usleep(5000);
            same(1, got[SIGTERM]); same(1, got[SIGUSR1]); same(1, got[SIGUSR2]); same(1, got[SIGRTMIN + 5]);
            scenario_leave(35);
        }
        scenario_await("leave");
        scenario_leave(6);
    }
    scenario_await("child");
    scenario_wait();
    scenario_child(middle, 6);
    int status = 0;
    check(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 35);
    return scenario_end();
}

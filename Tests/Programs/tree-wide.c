// Many processes at once: argument: how many.
#include "scenario.h"
int main(int argc, char **argv) {
    int n = atoi(argv[1]);
    pid_t *pids = malloc(n * sizeof *pids);
    volatile int *up = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (int i = 0; i < n; i++) {
        if ((pids[i] = must(fork()))) continue;
        pid_t me = getpid();
        __atomic_add_fetch(up, 1, __ATOMIC_SEQ_CST);
        for (int w = 0; w < 6000 && !scenario_exists("go"); w++) usleep(20000);
        same(me, getpid());
        __atomic_add_fetch(up + 1, 1, __ATOMIC_SEQ_CST);
        scenario_leave(i % 90);
    }
    while (*up < n) usleep(1000);
    scenario_wait();
    for (int i = 0; i < n; i++) scenario_child(pids[i], i % 90);
    same(n, up[1]);
    return scenario_end();
}

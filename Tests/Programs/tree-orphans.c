// Processes whose parents have ended come back under their numbers, also where these are small and one follows the other.
#include "scenario.h"
int main(void) {
    enum { COUNT = 20 };
    volatile int *ended = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (int i = 0; i < COUNT; i++) {
        pid_t between = must(fork());
        if (!between) {
            if (!must(fork())) {
                pid_t me = getpid();
                while (!scenario_exists("go")) usleep(20000);
                same(me, getpid());
                __atomic_add_fetch(ended, 1, __ATOMIC_SEQ_CST);
                scenario_leave(0);
            }
            _exit(0);
        }
        scenario_child(between, 0);
    }
    scenario_wait();
    for (int i = 0; i < 500 && *ended < COUNT; i++) usleep(20000);
    same(COUNT, *ended);
    return scenario_end();
}

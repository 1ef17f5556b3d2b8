// A real-time program with memory that takes its writers a while.
#include "scenario.h"
enum { SIZE = 256 << 20 };
int main(void) {
    char *m = must(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(m, SIZE, 7);
    struct sched_param p = { .sched_priority = 10 };
    must(sched_setscheduler(0, SCHED_FIFO, &p));
    scenario_wait();
    same(SCHED_FIFO, sched_getscheduler(0));
    return scenario_end();
}

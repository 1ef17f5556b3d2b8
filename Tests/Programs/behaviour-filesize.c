// A program that may write only small files, and has memory that is not written by a copy of it, gets no signal for the statefile's size.
#include "scenario.h"
#include <sys/shm.h>
int main(void) {
    enum { SIZE = 4 << 20 };
    int id = must(shmget(IPC_PRIVATE, SIZE, 0600)); char *m = must(shmat(id, NULL, 0));
    must(shmctl(id, IPC_RMID, NULL));
    scenario_fill(m, SIZE, 5);
    struct rlimit l = { 4096, 4096 };
    must(setrlimit(RLIMIT_FSIZE, &l));
    scenario_wait();
    same(-1, scenario_compare(m, SIZE, 5));
    return scenario_end();
}

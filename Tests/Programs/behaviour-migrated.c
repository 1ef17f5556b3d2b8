// libc's rseq area lies behind much memory that is written in one piece with it; the kernel writes the CPU's number there whenever the task, or its copy, has gone to another.
#include "scenario.h"
#include <sys/prctl.h>
static char first[8 << 20];                 // is written before it, so that the moving has begun
static _Thread_local char before[1 << 20];
// With a pid: moves that process's only child from CPU to CPU.
static int move(const char *pid) {
    char path[64], child[32] = "";
    snprintf(path, sizeof path, "/proc/%s/task/%s/children", pid, pid);
    int children = must(open(path, O_RDONLY));
    must(prctl(PR_SET_TIMERSLACK, 1));
    for (unsigned i = 0; !scenario_exists("moved"); usleep(100)) {
        if (pread(children, child, sizeof child - 1, 0) <= 0) continue;
        // Not at once: on a CPU of this one's own it would never run.
        for (unsigned long cpu = 1; !syscall(SYS_sched_setaffinity, atoi(child), sizeof cpu, &cpu); cpu ^= 3) usleep(i++ * 37 % 120);
    }
    return 0;
}
int main(int argc, char **argv) {
    if (argc > 1) return move(argv[1]);
    scenario_fill(first, sizeof first, 4);
    scenario_fill(before, sizeof before, 5);
    // So it is copied into the file by the snapshot itself: while write(2) copies, the kernel does not write the number.
    struct rlimit l = { 4096, 4096 };
    must(setrlimit(RLIMIT_FSIZE, &l));
    scenario_wait();
    same(-1, scenario_compare(first, sizeof first, 4));
    same(-1, scenario_compare(before, sizeof before, 5));
    return scenario_end();
}

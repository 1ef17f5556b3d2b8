// A chain of processes: each starts the next one and ends, some milliseconds later.  The last number of the file "links" grows while it lives.
#include "scenario.h"
int main(void) {
    volatile long *count = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int fd = must(open(scenario_path("links"), O_WRONLY | O_CREAT, 0600));
    if (!must(fork())) {
        setsid();
        while (!scenario_exists("go")) {
            long n = ++*count;
            must(pwrite(fd, &n, sizeof n, 0));
            if (must(fork())) _exit(0);
            usleep(3000);
        }
        _exit(0);
    }
    scenario_wait();
    return scenario_end();
}

// fork and exit, four at a time, each status checked; argument: how many.
#include "scenario.h"
int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 1000, sum = 0;
    pid_t live[4] = { 0 };
    int status[4];
    for (long i = 0; i < n + 4; i++) {
        int k = i % 4;
        if (live[k]) { scenario_child(live[k], status[k]); sum += status[k]; }
        live[k] = 0;
        if (i >= n) continue;
        status[k] = i % 90;
        live[k] = must(fork());
        if (!live[k]) { volatile double x = i; for (int w = 0; w < 20000; w++) x = x * 1.01 + 1; _exit(status[k]); }
    }
    check(wait(NULL) == -1 && errno == ECHILD);
    printf("%ld forks, sum %ld\n", n, sum);
    return scenario_end();
}

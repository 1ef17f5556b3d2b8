// Executes itself again and again with a counter and a checksum in its arguments; argument: how many times.
#include "scenario.h"
int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 500, i = argc > 2 ? atol(argv[2]) : 0;
    uint64_t sum = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    pid_t first = argc > 4 ? atoi(argv[4]) : getpid();
    same(first, getpid());
    if (i == n) { printf("%ld execs, sum %llu\n", i, (unsigned long long)sum); return scenario_end(); }
    char a[3][32], self[512];
    snprintf(a[0], 32, "%ld", i + 1);
    snprintf(a[1], 32, "%llu", (unsigned long long)scenario_mix(sum + i));
    snprintf(a[2], 32, "%d", first);
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    execl(self, argv[0], argc > 1 ? argv[1] : "500", a[0], a[1], a[2], NULL);
    perror("exec");
    return 1;
}

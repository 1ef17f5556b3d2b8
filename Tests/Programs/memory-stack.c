// The main stack keeps its contents and grows; so does a MAP_GROWSDOWN mapping; the kernel still calls it [stack].
#include "scenario.h"
static long deep(int n, char *check_at) {
    volatile char frame[4096];
    for (int i = 0; i < 4096; i += 512) frame[i] = (char)(n + i);
    long r = n ? deep(n - 1, check_at) : 0;
    for (int i = 0; i < 4096; i += 512) if (frame[i] != (char)(n + i)) r += 1000000;
    return r + 1;
}
static void hold(int n) {
    volatile uint64_t frame[128];
    for (int i = 0; i < 128; i++) frame[i] = scenario_mix(n * 1000 + i);
    if (n) hold(n - 1); else scenario_wait();
    for (int i = 0; i < 128; i++) same(scenario_mix(n * 1000 + i), frame[i]);
}
int main(void) {
    char *down = must(mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    must(munmap(down, 64 << 20));
    char *top = must(mmap(down + (48 << 20), 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0));
    scenario_fill(top, 8192, 8);
    hold(50);
    same(1401, deep(1400, NULL));                           // 5.6 MiB
    same(-1, scenario_compare(top, 8192, 8));
    for (int i = 1; i < 200; i++) { same(0, top[-i * 4096]); top[-i * 4096] = (char)i; }
    char line[256], local;
    int found = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) {
        unsigned long a, b;
        if (strstr(line, "[stack]") && sscanf(line, "%lx-%lx", &a, &b) == 2) found = (unsigned long)&local >= a && (unsigned long)&local < b;
    }
    check(found);
    return scenario_end();
}

// Private and shared memory of sizes that do not divide evenly between writers, with holes and with pages of zeros.
#include "scenario.h"
enum { P = 4096, M = 1 << 20 };
static const struct { size_t size; int flags; } kinds[] = {
    { 150 * M + 3 * P, MAP_PRIVATE }, { 97 * M + P, MAP_SHARED }, { 32 * M, MAP_PRIVATE }, { 64 * M - P, MAP_PRIVATE }, { 33 * M, MAP_SHARED } };
enum { N = sizeof kinds / sizeof kinds[0], STEP = 7 };
// Most pages hold something; every seventh is zero, and every forty-ninth was never touched.
static void each(char *m, size_t n, int seed, int fill) {
    for (size_t at = 0, k = 0; at < n; at += P, k++) {
        if (k % (STEP * STEP) == 0) { if (!fill) same(-1, scenario_nonzero(m + at, P)); continue; }
        if (k % STEP == 0) { if (fill) memset(m + at, 0, P); else same(-1, scenario_nonzero(m + at, P)); continue; }
        if (fill) scenario_fill(m + at, P, seed + k); else same(-1, scenario_compare(m + at, P, seed + k));
    }
}
int main(void) {
    char *m[N];
    for (int i = 0; i < N; i++) { m[i] = must(mmap(NULL, kinds[i].size, PROT_READ | PROT_WRITE, kinds[i].flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)); each(m[i], kinds[i].size, i * 1000003, 1); }
    pid_t child = must(fork());     // a second process, whose share of the writers is smaller
    if (!child) { munmap(m[0], kinds[0].size); scenario_await("go"); each(m[2], kinds[2].size, 2 * 1000003, 0); scenario_leave(0); }
    scenario_wait();
    for (int i = 0; i < N; i++) each(m[i], kinds[i].size, i * 1000003, 0);
    scenario_child(child, 0);
    return scenario_end();
}

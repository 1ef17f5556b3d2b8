// 60,000 mappings, and 4,000 shared ones: nothing about them takes time by the square of their number.
#include "scenario.h"
enum { P = 4096, N = 54000, S = 2000 };
int main(void) {
    char *m = must(mmap(NULL, (size_t)N * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), *shared[S];
    for (int i = 0; i < N; i++) {
        if (i % 16 == 0) scenario_fill(m + (size_t)i * P, 64, i);
        if (i & 1) must(mprotect(m + (size_t)i * P, P, PROT_READ));
    }
    for (int i = 0; i < S; i++) {
        shared[i] = must(mmap(NULL, 2 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        if (i & 1) must(mprotect(shared[i], P, PROT_READ));
        scenario_fill(shared[i] + P, 64, i);
    }
    scenario_wait();
    for (int i = 0; i < N; i++) {
        char *p = m + (size_t)i * P;
        same(-1, i % 16 ? scenario_nonzero(p, 64) : scenario_compare(p, 64, i));
        if (!(i & 1)) p[8] = 1;
    }
    for (int i = 0; i < S; i++) same(-1, scenario_compare(shared[i] + P, 64, i));
    return scenario_end();
}

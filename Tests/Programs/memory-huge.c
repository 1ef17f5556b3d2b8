// 64 MiB on huge pages where there are any: contents, and what is written to it afterwards.
#include "scenario.h"
enum { S = 64 << 20 };
int main(void) {
    char *m = must(mmap(NULL, S + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    m = (char *)(((uintptr_t)m + (2 << 20) - 1) & ~((2ull << 20) - 1));
    madvise(m, S, MADV_HUGEPAGE);
    scenario_fill(m, S, 10);
    must(madvise(m + (6 << 20) + 4096, 8192, MADV_DONTNEED));
    scenario_wait();
    same(-1, scenario_nonzero(m + (6 << 20) + 4096, 8192));
    same(-1, scenario_compare(m, (6 << 20) + 4096, 10));
    same(-1, scenario_compare(m + (6 << 20) + 12288, S - (6 << 20) - 12288, 10 + ((6 << 20) + 12288) / 8));
    memset(m, 1, S);
    return scenario_end();
}

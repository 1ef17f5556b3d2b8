// Sealed memory keeps its contents and stays sealed: it can't be unmapped, protected or moved.
#include "scenario.h"
enum { P = 4096 };
int main(void) {
    char *m = must(mmap(NULL, 6 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(m, 6 * P, 4);
    must(mprotect(m, 2 * P, PROT_READ));
    must(mprotect(m + 4 * P, 2 * P, PROT_NONE));
    must(madvise(m + 4 * P, 2 * P, MADV_DONTNEED));
    char *shared = must(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    scenario_fill(shared, P, 5);
    int sealed = syscall(462, m, 6 * P, 0) == 0 && syscall(462, shared, P, 0) == 0;
    scenario_wait();
    same(-1, scenario_compare(m, 4 * P, 4));
    same(-1, scenario_compare(shared, P, 5));
    m[3 * P] = 1; shared[0] = 1;
    for (int i = 0; sealed && i < 6; i++) {
        same(-1, munmap(m + i * P, P)); same(EPERM, errno);
        same(-1, mprotect(m + i * P, P, PROT_READ | PROT_WRITE)); same(EPERM, errno);
    }
    if (sealed) { same(-1, munmap(shared, P)); same(EPERM, errno); }
    return scenario_end();
}

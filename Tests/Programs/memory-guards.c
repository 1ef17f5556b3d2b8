// Pages of MADV_GUARD_INSTALL fault, in memory that a clone inherits and in memory that it does not; the pages around them keep their contents.
#include "scenario.h"
#include <setjmp.h>
enum { P = 4096, N = 64 };
static sigjmp_buf jump;
static void handler(int s) { (void)s; siglongjmp(jump, 1); }
static int faults(char *p) { if (!sigsetjmp(jump, 1)) { (void)*(volatile char *)p; return 0; } return 1; }
static char *guarded(int advice, int seed) {
    char *m = must(mmap(NULL, N * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (seed) scenario_fill(m, N * P, seed);
    if (advice) must(madvise(m, N * P, advice));
    if (madvise(m + 3 * P, 2 * P, 102) < 0) return NULL;
    must(madvise(m + 40 * P, P, 102));
    return m;
}
static void compare(char *m, int seed) {
    for (int i = 0; i < N; i++) {
        int guard = i == 3 || i == 4 || i == 40;
        same(guard, faults(m + i * P));
        if (!guard) same(-1, seed ? scenario_compare(m + i * P, P, seed + i * P / 8) : scenario_nonzero(m + i * P, P));
    }
    must(madvise(m, N * P, 103));
    same(-1, scenario_nonzero(m + 3 * P, 2 * P));
}
int main(void) {
    signal(SIGSEGV, handler);
    char *empty = guarded(0, 0), *full = guarded(0, 9), *own = guarded(MADV_DONTFORK, 10);
    scenario_wait();
    if (empty) { compare(empty, 0); compare(full, 9); compare(own, 10); }      // NULL: not in this kernel
    return scenario_end();
}

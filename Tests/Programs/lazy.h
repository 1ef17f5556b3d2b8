// Memory whose contents are known.
#include "scenario.h"
#define MIB (1ul << 20)
static char *fresh(size_t size, uint64_t seed) {
    char *p = must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(p, size, seed);
    return p;
}
static void equal(const char *name, const char *p, size_t size, uint64_t seed) {
    long at = scenario_compare(p, size, seed);
    if (at >= 0) scenario_differs("%s: word %ld is %016llx", name, at, (unsigned long long)((const uint64_t *)p)[at]);
}
static void zeros(const char *name, const char *p, size_t size) {
    long at = scenario_nonzero(p, size);
    if (at >= 0) scenario_differs("%s: byte %ld is not zero", name, at);
}

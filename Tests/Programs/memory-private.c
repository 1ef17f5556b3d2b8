// Private anonymous memory: contents, zero pages, holes, neighbours; it behaves as anonymous memory afterwards (DONTNEED, FREE, mremap, munmap).
#include "scenario.h"
enum { P = 4096, N = 512 };
int main(void) {
    char *m = must(mmap(NULL, N * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    char *large = must(mmap(NULL, 1ull << 36, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    for (int i = 0; i < N; i += 3) scenario_fill(m + i * P, P, i);
    memset(m + P, 0, P);
    scenario_fill(large + (1ull << 35), P, 9);
    large[(1ull << 36) - 1] = 5;
    char *heap = malloc(3 << 20);
    scenario_fill(heap, 3 << 20, 77);
    scenario_wait();
    for (int i = 0; i < N; i++) same(-1, i % 3 ? scenario_nonzero(m + i * P, P) : scenario_compare(m + i * P, P, i));
    same(-1, scenario_compare(large + (1ull << 35), P, 9));
    same(5, large[(1ull << 36) - 1]);
    same(-1, scenario_compare(heap, 3 << 20, 77));
    // As anonymous memory does.
    must(madvise(m, 3 * P, MADV_DONTNEED));
    same(-1, scenario_nonzero(m, 3 * P));
    must(madvise(m + 30 * P, 3 * P, MADV_FREE));
    char *moved = must(mremap(m, N * P, 2 * N * P, MREMAP_MAYMOVE));
    same(-1, scenario_compare(moved + 9 * P, P, 9));
    same(-1, scenario_nonzero(moved + N * P, N * P));
    must(munmap(moved + 9 * P, P));
    same(-1, madvise(moved + 9 * P, P, MADV_WILLNEED));
    must(munmap(moved, 2 * N * P));
    must(munmap(large, 1ull << 36));
    free(heap);
    return scenario_end();
}

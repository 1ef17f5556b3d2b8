// Maps memory of another size at the same place again and again, and grows all of it: mremap(2) takes a whole mapping, never two.
#include "scenario.h"
#include <sys/mman.h>
enum { M = 1 << 20 };
int main(void) {
    char *place = must(mmap(NULL, 64 * M, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    must(munmap(place, 64 * M));
    for (long i = 0; !scenario_exists("go"); i++) {
        size_t size = i % 2 ? 2 * M : 5 * M;
        char *at = must(mmap(place, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
        memset(at, 1, size);
        at = must(mremap(at, size, size + 3 * M, MREMAP_MAYMOVE));
        must(munmap(at, size + 3 * M));
        if (i == 10) scenario_touch("ready");
    }
    return scenario_end();
}

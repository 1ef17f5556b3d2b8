// Tens of thousands of shared mappings, each of memory of its own: more than half of what the kernel permits (vm.max_map_count).
#include "scenario.h"
enum { COUNT = 40000 };
int main(void) {
    static int *page[COUNT];
    for (int i = 0; i < COUNT; i++) { page[i] = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)); *page[i] = i; }
    pid_t child = must(fork());
    if (child == 0) {
        // Has only some of them, and one twice.
        for (int i = 0; i < COUNT; i++) if (i % 100) munmap(page[i], 4096);
        int *again = must(mremap(page[100], 0, 4096, MREMAP_MAYMOVE));
        scenario_await("go");
        for (int i = 0; i < COUNT; i += 100) { same(i, *page[i]); *page[i] = -i; }
        same(-100, *again);
        return scenario_bad;
    }
    usleep(200000);
    scenario_wait();
    int status;
    same(child, waitpid(child, &status, 0)); same(0, status);
    for (int i = 0; i < COUNT; i++) if (*page[i] != (i % 100 ? i : -i)) { scenario_differs("page %d has %d", i, *page[i]); break; }
    return scenario_end();
}

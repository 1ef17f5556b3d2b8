// Holds much memory and looks at it slowly, so that most of it is touched only after it was loaded.
#include "scenario.h"
#define MIB (1ul << 20)
int main(int argc, char **argv) {
    size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 256) * MIB, step = 4 * MIB;
    char *p = must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(p, size, 1);
    scenario_touch("ready");
    scenario_await("go");
    for (size_t at = 0; at < size; at += step) {
        if (scenario_compare(p + at, step, 1 + at / 8) >= 0) { scenario_differs("wrong at %zu", at); break; }
        if (argc > 2) usleep(20000);
    }
    char line[256];
    int flagged = 0;
    FILE *f = fopen("/proc/self/smaps", "re");
    if (argc <= 2) {
        // When all is loaded, no mapping is registered any more.
        for (int i = 0; i < 2000; i++) {
            flagged = 0;
            rewind(f);
            while (fgets(line, sizeof line, f)) if (!strncmp(line, "VmFlags:", 8) && strstr(line, " um")) flagged = 1;
            if (!flagged) break;
            usleep(10000);
        }
        check(!flagged);
    }
    fclose(f);
    return scenario_end();
}

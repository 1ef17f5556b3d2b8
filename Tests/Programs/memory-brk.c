// The heap: its end, its contents, and that it keeps growing.
#include "scenario.h"
int main(void) {
    char *start = sbrk(0);
    must(sbrk(1 << 20));
    scenario_fill(start, 1 << 20, 12);
    void *blocks[200];
    for (int i = 0; i < 200; i++) { blocks[i] = malloc(100 + i * 16); memset(blocks[i], i, 100 + i * 16); }
    char *end = sbrk(0);
    scenario_wait();
    same(end, sbrk(0));
    same(-1, scenario_compare(start, 1 << 20, 12));
    for (int i = 0; i < 200; i++) { for (int k = 0; k < 100 + i * 16; k++) if (((char *)blocks[i])[k] != (char)i) { check(0); break; } }
    char *grown = must(sbrk(8 << 20));
    same(end, grown);
    same(-1, scenario_nonzero(grown, 8 << 20));
    memset(grown, 1, 8 << 20);
    must(sbrk(-(4 << 20)));
    same(end + (4 << 20), sbrk(0));
    must(sbrk(4 << 20));
    same(-1, scenario_nonzero(grown + (4 << 20), 4 << 20));
    char line[256];
    FILE *f = fopen("/proc/self/maps", "r");
    int heaps = 0;
    while (fgets(line, sizeof line, f)) if (strstr(line, "[heap]")) heaps++;
    check(heaps >= 1);
    for (int i = 0; i < 200; i++) free(blocks[i]);
    return scenario_end();
}

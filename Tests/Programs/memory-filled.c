// Large private memory of every density: contents, zeros between, and what each mapping shows in smaps are as they were, whatever pages it came back on.
#include "scenario.h"
#define MIB (1ul << 20)
static struct part { const char *name; size_t size, step, used; int advice, protection; char *at; char shown[200]; } parts[] = {
    { "dense", 40 * MIB, 4096, 4096, 0, PROT_READ | PROT_WRITE },
    { "every third page", 24 * MIB, 3 * 4096, 4096, 0, PROT_READ | PROT_WRITE },
    { "with a hole in each 2 MiB", 16 * MIB, 2 * MIB, 2 * MIB - 4096, 0, PROT_READ | PROT_WRITE },
    { "huge", 16 * MIB, 4096, 4096, MADV_HUGEPAGE, PROT_READ | PROT_WRITE },
    { "huge, touched here and there", 16 * MIB, MIB, 64, MADV_HUGEPAGE, PROT_READ | PROT_WRITE },
    { "huge, every other page", 64 * MIB, 2 * 4096, 4096, MADV_HUGEPAGE, PROT_READ | PROT_WRITE },       // more runs than a chunk holds
    { "never huge", 8 * MIB, 4096, 4096, MADV_NOHUGEPAGE, PROT_READ | PROT_WRITE },
    { "read-only", 8 * MIB, 4096, 4096, 0, PROT_READ },
    { "code", 8 * MIB, 4096, 4096, 0, PROT_READ | PROT_WRITE | PROT_EXEC },
};
enum { PARTS = sizeof parts / sizeof *parts };
// The mapping that starts at `at`: its line of maps and its flags; how much of it is on huge pages.
static long shown(const void *at, char *text, size_t size) {
    char line[512], wanted[32];
    int here = 0;
    long huge = -1;
    snprintf(wanted, sizeof wanted, "%lx-", (unsigned long)at);
    FILE *f = fopen("/proc/self/smaps", "re");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, wanted, strlen(wanted))) { here = 1; snprintf(text, size, "%s", line); }
        else if (here && !strncmp(line, "AnonHugePages:", 14)) huge = atol(line + 14);
        else if (here && !strncmp(line, "VmFlags:", 8)) { strncat(text, line, size - strlen(text) - 1); break; }
    }
    fclose(f);
    return huge;
}
int main(void) {
    for (int i = 0; i < PARTS; i++) {
        struct part *p = &parts[i];
        // Odd starts: pages, runs and huge pages have borders of their own.
        char *room = mmap(NULL, p->size + 8 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        p->at = mmap(room + 4096 * (i * 37 + 1), p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (p->advice) must(madvise(p->at, p->size, p->advice));
        for (size_t at = 0; at + p->used <= p->size; at += p->step) scenario_fill(p->at + at, p->used, at + i);
        must(mprotect(p->at, p->size, p->protection));
        shown(p->at, p->shown, sizeof p->shown);
    }
    scenario_wait();
    for (int i = 0; i < PARTS; i++) {
        struct part *p = &parts[i];
        char now[200] = "";
        shown(p->at, now, sizeof now);
        if (strcmp(now, p->shown)) scenario_differs("%s: %s, was %s", p->name, now, p->shown);
        for (size_t at = 0; at + p->used <= p->size; at += p->step) {
            if (scenario_compare(p->at + at, p->used, at + i) >= 0) { scenario_differs("%s: wrong at %zu", p->name, at); break; }
            if (p->used < p->step && scenario_nonzero(p->at + at + p->used, p->step - p->used < p->size - at - p->used ? p->step - p->used : p->size - at - p->used) >= 0) {
                scenario_differs("%s: no zeros after %zu", p->name, at); break;
            }
        }
    }
    return scenario_end();
}

// Memory that is advised, mapped or protected differently at the last moment before a checkpoint is restored as it was then.
#include "scenario.h"
enum { P = 4096, S = 2 << 20 };
static char *new_mapping(int flags) { return must(mmap(NULL, S, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0)); }
static int has_flag(const char *at, const char *flag) {
    char line[512]; int inside = 0, found = 0;
    FILE *f = fopen("/proc/self/smaps", "re");
    while (fgets(line, sizeof line, f)) {
        unsigned long a, b;
        if (sscanf(line, "%lx-%lx ", &a, &b) == 2 && strchr(line, '-') - line > 6) inside = a <= (unsigned long)at && (unsigned long)at < b;
        else if (inside && !strncmp(line, "VmFlags:", 8)) found = strstr(line, flag) != NULL;
    }
    fclose(f);
    return found;
}
int main(int argc, char **argv) {
    const char *kind = argv[1];
    size_t more = argc > 2 ? (size_t)atoi(argv[2]) << 20 : 0;      // a stream holds its first 32 MiB back
    char *rest = more ? must(mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) : NULL;
    if (rest) scenario_fill(rest, more, 9);
    // Apart from each other, so that none is merged with its neighbour.
    char *space = must(mmap(NULL, 8 * S, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    char *m = must(mmap(space + S, S, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)), *empty = space + 4 * S, *fresh = NULL;
    must(mprotect(empty, S, PROT_READ | PROT_WRITE));
    // Where the snapshot misses a mapping is then the first place for memory of its own.
    while ((char *)must(mmap(NULL, 16 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) > space) { }
    scenario_fill(m, S, 1);
    static const struct { const char *kind; int advice; const char *flag; } advices[] = {
        { "dontfork", MADV_DONTFORK, " dc" }, { "wipeonfork", MADV_WIPEONFORK, " wf" }, { "dontdump", MADV_DONTDUMP, " dd" }, { "hugepage", MADV_HUGEPAGE, " hg" }, { "random", MADV_RANDOM, " rr" } };
    scenario_touch("ready"); scenario_await("advise");
    const char *flag = NULL;
    for (int i = 0; i < 5; i++) if (!strcmp(kind, advices[i].kind)) { must(madvise(m, S, advices[i].advice)); flag = advices[i].flag; }
    if (!strcmp(kind, "lock")) { must(mlock(m, 16 * P)); flag = " lo"; }
    if (!strcmp(kind, "protect")) must(mprotect(m, S, PROT_NONE));
    if (!strcmp(kind, "drop")) must(madvise(m, S, MADV_DONTNEED));
    if (!strcmp(kind, "touch")) scenario_fill(empty, S, 2);
    if (!strcmp(kind, "unmap")) must(munmap(m, S / 2));
    if (!strcmp(kind, "shared")) scenario_fill(fresh = new_mapping(MAP_SHARED), S, 3);
    if (!strcmp(kind, "new")) { scenario_fill(fresh = new_mapping(MAP_PRIVATE), S, 3); must(madvise(fresh, S, MADV_DONTFORK)); }
    scenario_touch("advised"); scenario_await("go");
    if (rest) same(-1, scenario_compare(rest, more, 9));
    if (flag && !has_flag(m, flag)) scenario_differs("%s: no flag%s", kind, flag);
    if (!flag) check(!has_flag(m, " dc") && !has_flag(m, " wf") && !has_flag(m, " lo"));
    if (!strcmp(kind, "protect")) { int ends[2]; must(pipe(ends)); same(-1, write(ends[1], m, 1)); same(EFAULT, errno); must(mprotect(m, S, PROT_READ)); }
    if (!strcmp(kind, "drop")) same(-1, scenario_nonzero(m, S));
    else if (!strcmp(kind, "unmap")) { same(-1, mincore(m, P, (unsigned char[1]){ 0 })); same(-1, scenario_compare(m + S / 2, S / 2, 1 + S / 16)); }
    else same(-1, scenario_compare(m, S, 1));
    same(-1, strcmp(kind, "touch") ? scenario_nonzero(empty, S) : scenario_compare(empty, S, 2));
    if (fresh) { same(-1, scenario_compare(fresh, S, 3)); check(has_flag(fresh, strcmp(kind, "new") ? " sh" : " dc")); }
    return scenario_end();
}

// madvise settings and locks that change behaviour: compared as the kernel shows them (VmFlags), and by what they do.
#include "scenario.h"
enum { P = 4096, S = 4 << 20 };
struct region { const char *name; int advice; const char *flag; char *at; char before[512]; };
static void flags_of(const char *at, char *out) {           // the VmFlags of the mapping that starts at `at`
    char line[512];
    FILE *f = fopen("/proc/self/smaps", "re");
    int inside = 0;
    out[0] = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned long a, b;
        if (sscanf(line, "%lx-%lx ", &a, &b) == 2 && strchr(line, '-') - line > 6) inside = a <= (unsigned long)at && (unsigned long)at < b;
        else if (inside && !strncmp(line, "VmFlags:", 8)) { strcpy(out, line); break; }
    }
    fclose(f);
}
int main(void) {
    struct region r[] = {
        { "dontfork", MADV_DONTFORK, " dc" }, { "wipeonfork", MADV_WIPEONFORK, " wf" }, { "hugepage", MADV_HUGEPAGE, " hg" },
        { "nohugepage", MADV_NOHUGEPAGE, " nh" }, { "dontdump", MADV_DONTDUMP, " dd" }, { "sequential", MADV_SEQUENTIAL, " sr" },
        { "random", MADV_RANDOM, " rr" }, { "mergeable", MADV_MERGEABLE, " mg" }, { "locked", -1, " lo" }, { "onfault", -2, " lo" },
    };
    enum { N = sizeof r / sizeof r[0] };
    for (int i = 0; i < N; i++) {
        // Apart from each other, so that none is merged with its neighbour.
        char *m = must(mmap(NULL, S + 2 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        r[i].at = must(mmap(m + P, i < 8 ? S : 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
        if (r[i].advice >= 0 && madvise(r[i].at, S, r[i].advice) < 0) { r[i].advice = -3; continue; }      // not in this kernel
        if (r[i].advice == -1) must(mlock(r[i].at, 4 * P));
        if (r[i].advice == -2 && syscall(SYS_mlock2, r[i].at, 4 * P, 1) < 0) r[i].advice = -3;
        scenario_fill(r[i].at, 4 * P, i);
        flags_of(r[i].at, r[i].before);
        check(strstr(r[i].before, r[i].flag));
    }
    char locked[128], after[512];
    scenario_line("/proc/self/status", "VmLck:", locked, sizeof locked);
    scenario_wait();
    scenario_line("/proc/self/status", "VmLck:", after, sizeof after);
    check(!strcmp(locked, after));
    for (int i = 0; i < N; i++) {
        if (r[i].advice == -3) continue;
        flags_of(r[i].at, after);
        if (strcmp(after, r[i].before)) scenario_differs("%s: flags were %snow %s", r[i].name, r[i].before, after);
        same(-1, scenario_compare(r[i].at, 4 * P, i));
    }
    pid_t child = must(fork());
    if (!child) {
        same(-1, madvise(r[0].at, P, MADV_WILLNEED));       // not inherited
        same(ENOMEM, errno);
        same(-1, scenario_nonzero(r[1].at, 4 * P));         // wiped
        same(-1, scenario_compare(r[2].at, 4 * P, 2));
        scenario_leave(0);
    }
    scenario_child(child, 0);
    same(-1, scenario_compare(r[0].at, 4 * P, 0));
    same(-1, scenario_compare(r[1].at, 4 * P, 1));
    return scenario_end();
}

// A mapping that grows downwards goes on growing, and not into the guard gap above another mapping; droppable memory stays droppable.
#include "scenario.h"
#include <setjmp.h>
enum { P = 4096, M = 1 << 20 };
static sigjmp_buf jump;
static void handler(int s) { (void)s; siglongjmp(jump, 1); }
static int faults(char *p) { if (!sigsetjmp(jump, 1)) { *(volatile char *)p = 1; return 0; } return 1; }
static int has_flag(void *at, const char *flag) {
    char line[512];
    unsigned long a, b;
    FILE *f = fopen("/proc/self/smaps", "re");
    int inside = 0, found = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &a, &b) == 2 && strchr(line, '-') - line > 6) inside = a <= (unsigned long)at && (unsigned long)at < b;
        else if (inside && !strncmp(line, "VmFlags:", 8)) found = strstr(line, flag) != NULL;
    }
    fclose(f);
    return found;
}
int main(void) {
    char *hole = must(mmap(NULL, 8 * M, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    char *below = must(mmap(hole, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    must(munmap(hole + P, 8 * M - P));
    char *top = hole + 8 * M, *m = must(mmap(top - P, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0));
    static char stack[65536];
    stack_t s = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&s, NULL);
    sigaction(SIGSEGV, &(struct sigaction){ .sa_handler = handler, .sa_flags = SA_ONSTACK }, NULL);
    m[0] = 1;
    same(0, faults(top - 20 * P));
    scenario_fill(top - 10 * P, 9 * P, 3);
    char *droppable = mmap(NULL, P, PROT_READ | PROT_WRITE, 8 | MAP_ANONYMOUS, -1, 0);
    if (droppable != MAP_FAILED) droppable[0] = 1;
    scenario_wait();
    same(-1, scenario_compare(top - 10 * P, 9 * P, 3));
    check(has_flag(m, " gd"));
    same(0, faults(top - 300 * P));
    same(0, faults(hole + 2 * M));
    same(1, faults(hole + 255 * P));
    below[0] = 1;
    if (droppable != MAP_FAILED) { check(has_flag(droppable, " dp")); droppable[1] = 1; }
    return scenario_end();
}

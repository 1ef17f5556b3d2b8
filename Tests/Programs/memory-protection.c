// PROT_NONE with contents, guards, read-only and executable memory: faults are the same faults, contents come back with mprotect.
#include "scenario.h"
#include <setjmp.h>
enum { P = 4096 };
static sigjmp_buf jump;
static volatile int code;
static void *volatile address;
static void handler(int s, siginfo_t *i, void *c) { (void)s; (void)c; code = i->si_code; address = i->si_addr; siglongjmp(jump, 1); }
#define faults(pointer, write, expected) do { code = 0; if (!sigsetjmp(jump, 1)) { if (write) *(volatile char *)(pointer) = 1; else (void)*(volatile char *)(pointer); } \
    same(expected, code); same(pointer, address); } while (0)
int main(void) {
    char *none = must(mmap(NULL, 3 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(none, 3 * P, 6);
    must(mprotect(none, 3 * P, PROT_NONE));
    char *guarded = must(mmap(NULL, 3 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    must(mprotect(guarded, P, PROT_NONE));
    char *readonly = must(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(readonly, P, 7);
    must(mprotect(readonly, P, PROT_READ));
    unsigned char *text = must(mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memcpy(text, "\xb8\x2a\x00\x00\x00\xc3", 6);            // mov $42, %eax; ret
    must(mprotect(text, P, PROT_READ | PROT_EXEC));
    char *never = must(mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    char *unmapped = must(mmap(NULL, P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    must(munmap(unmapped, P));
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, NULL);
    scenario_wait();
    faults(none + P, 0, SEGV_ACCERR);
    faults(guarded + 5, 1, SEGV_ACCERR);
    faults(readonly, 1, SEGV_ACCERR);
    faults(never + 70000, 0, SEGV_ACCERR);
    faults((char *)0x10, 0, SEGV_MAPERR);
    same(42, ((int (*)(void))text)());
    must(mprotect(none, 3 * P, PROT_READ | PROT_WRITE));
    same(-1, scenario_compare(none, 3 * P, 6));
    must(mprotect(readonly, P, PROT_READ | PROT_WRITE));
    same(-1, scenario_compare(readonly, P, 7));
    readonly[0] = 1;
    return scenario_end();
}

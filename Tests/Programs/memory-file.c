// Private file mappings: modified pages are ours, the others stay the file's; beyond its end is SIGBUS as before.
#include "scenario.h"
#include <setjmp.h>
enum { P = 4096 };
static sigjmp_buf jump;
static volatile int caught;
static void handler(int s, siginfo_t *i, void *c) { (void)s; (void)c; caught = i->si_code; siglongjmp(jump, 1); }
int main(void) {
    int fd = must(open(scenario_path("private.dat"), O_RDWR | O_CREAT, 0600));
    char *block = malloc(16 * P);
    scenario_fill(block, 16 * P, 1);
    must(pwrite(fd, block, 16 * P - 100, 0));
    char *m = must(mmap(NULL, 20 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    char *readonly = must(mmap(NULL, 4 * P, PROT_READ, MAP_PRIVATE, fd, 4 * P));
    char *was_written = must(mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 8 * P));
    close(fd);
    scenario_fill(m + 3 * P, P, 50);
    scenario_fill(was_written + P, P, 51);
    must(mprotect(was_written, 4 * P, PROT_READ));          // modified, and now read-only
    volatile char touch = m[5 * P];
    (void)touch;
    scenario_wait();
    for (int i = 0; i < 15; i++) check(i == 3 ? scenario_compare(m + i * P, P, 50) == -1 : !memcmp(m + i * P, block + i * P, P));
    check(!memcmp(readonly, block + 4 * P, 4 * P));
    check(!memcmp(was_written, block + 8 * P, P));
    same(-1, scenario_compare(was_written + P, P, 51));
    same(-1, scenario_nonzero(m + 16 * P - 100, 100));
    // The untouched ones follow the file, the modified ones do not.
    fd = must(open(scenario_path("private.dat"), O_RDWR));
    must(pwrite(fd, "new", 3, 6 * P));
    must(pwrite(fd, "new", 3, 3 * P));
    check(!memcmp(m + 6 * P, "new", 3));
    same(-1, scenario_compare(m + 3 * P, P, 50));
    must(madvise(m + 3 * P, P, MADV_DONTNEED));
    check(!memcmp(m + 3 * P, "new", 3));                    // back to the file's
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    sigaction(SIGBUS, &action, NULL);
    if (!sigsetjmp(jump, 1)) { m[18 * P] = 1; check(0); }
    same(BUS_ADRERR, caught);
    return scenario_end();
}

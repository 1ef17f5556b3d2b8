// What later mappings are subject to, and registrations that only the kernel has: mlockall(MCL_FUTURE), PR_SET_MDWE, membarrier(2).
#include "scenario.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
enum { GLOBAL = 4, PRIVATE = 8, SYNC_CORE = 32, REGISTRATIONS = 512, PAGE = 4096 };
static long membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }
/// 0: a new mapping is not locked; 1: it is, and there; 2: it is, and comes when it is touched.
static int future(void) {
    unsigned char there = 0;
    char *p = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    int locked = msync(p, PAGE, MS_INVALIDATE) && errno == EBUSY;
    must(mincore(p, PAGE, &there));
    must(munmap(p, PAGE));
    return locked ? there & 1 ? 1 : 2 : 0;
}
static int gains(void) {        // may memory that was written be executed?
    void *p = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    int r = mprotect(p, PAGE, PROT_READ | PROT_EXEC);
    munmap(p, PAGE);
    return !r;
}
static void *other(void *unused) { scenario_await("go"); same(0, membarrier(PRIVATE)); return unused; }
static void check_all(int locks, int registered, int mdwe, int gain) {
    same(locks, future()); same(registered, membarrier(REGISTRATIONS)); same(mdwe, prctl(66, 0, 0, 0, 0)); same(gain, gains());
}
int main(int argc, char **argv) {
    pid_t child = must(fork());     // with other rules, or none
    if (!child) {
        must(mlockall(MCL_FUTURE | 4 /* MCL_ONFAULT */));
        int mdwe = prctl(65, 1 | 2, 0, 0, 0) ? 0 : 3;
        scenario_touch("child");
        scenario_await("go");
        check_all(2, 0, mdwe, !mdwe);
        scenario_leave(0);
    }
    pthread_t t;
    int registered = 16;
    must(membarrier(16));           // REGISTER_PRIVATE_EXPEDITED
    if (!membarrier(64)) registered |= 64;
    must0(pthread_create(&t, NULL, other, NULL));
    must(mlockall(MCL_FUTURE));
    scenario_await("child");
    int mdwe = prctl(65, 1, 0, 0, 0) ? 0 : 1;
    scenario_wait();
    check_all(1, registered, mdwe, !mdwe);
    same(0, membarrier(PRIVATE));
    if (registered & 64) same(0, membarrier(SYNC_CORE));
    must0(pthread_join(t, NULL));
    must(munlockall());
    same(0, future());
    scenario_child(child, 0);
    return scenario_end();
}

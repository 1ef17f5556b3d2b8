// What a program does to its memory while a lazy restart is still loading it: all of it must look as if it had been there.
// Run so that "go" is there before the restart: everything here happens right after the release.
#include "lazy.h"
enum { BALLAST = 256, THREADS = 6 };
static char *ballast, *dropped, *grown, *moved, *replaced, *freed, *forked, *buffer, *protected_, *touched;
static void *toucher(void *which) {
    uint64_t x = (uint64_t)(long)which * 7919 + 1;
    for (int i = 0; i < 4000; i++) {
        x = scenario_mix(x);
        size_t word = x % (BALLAST * MIB / 8);
        if (((uint64_t *)ballast)[word] != scenario_mix(1 + word)) { scenario_differs("thread %ld: word %zu", (long)which, word); break; }
    }
    return NULL;
}
int main(void) {
    ballast = fresh(BALLAST * MIB, 1);
    dropped = fresh(32 * MIB, 2); grown = fresh(16 * MIB, 3); moved = fresh(16 * MIB, 4); replaced = fresh(16 * MIB, 5);
    freed = fresh(16 * MIB, 6); forked = fresh(32 * MIB, 7); buffer = fresh(16 * MIB, 8); protected_ = fresh(16 * MIB, 9); touched = fresh(32 * MIB, 10);
    // A hole in the middle, never touched.
    char *hole = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    scenario_fill(hole, 4096, 11); scenario_fill(hole + 40 * MIB, 8192, 12);
    int ends[2];
    must(pipe(ends));
    scenario_touch("ready");
    scenario_await("go");

    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) must0(pthread_create(&threads[i], NULL, toucher, (void *)i));
    must(madvise(dropped + 8 * MIB, 20 * MIB, MADV_DONTNEED));
    zeros("dropped", dropped + 8 * MIB, 20 * MIB);
    // By the kernel, into the middle of a page that is not there.
    char text[100];
    memset(text, 'x', sizeof text);
    same(100, write(ends[1], text, 100));
    same(100, read(ends[0], buffer + 5 * MIB + 1000, 100));
    check(memcmp(buffer + 5 * MIB + 1000, text, 100) == 0);
    equal("before what was read", buffer + 5 * MIB, 1000, 8 + 5 * MIB / 8);
    char *p = mremap(moved, 16 * MIB, 48 * MIB, MREMAP_MAYMOVE);
    if (p == MAP_FAILED) { scenario_differs("mremap"); p = moved; }
    zeros("moved: what it grew by", p + 16 * MIB, 32 * MIB);
    char *target = mmap(NULL, 16 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *q = mremap(grown, 16 * MIB, 16 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    check(q == target);
    equal("moved to an address", q, 16 * MIB, 3);
    must(munmap(replaced + 4 * MIB, 8 * MIB));
    check(mmap(replaced + 4 * MIB, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == replaced + 4 * MIB);
    zeros("mapped anew", replaced + 4 * MIB, 8 * MIB);
    must(madvise(freed, 8 * MIB, MADV_FREE));
    must(mprotect(protected_ + 3 * MIB + 4096, 4 * MIB, PROT_READ));
    pid_t child = must(fork());
    if (child == 0) {
        equal("the child's", forked, 32 * MIB, 7);
        must(madvise(forked, MIB, MADV_DONTNEED));
        zeros("dropped by the child", forked, MIB);
        equal("the child's ballast", ballast + 200 * MIB, 8 * MIB, 1 + 200 * MIB / 8);
        memset(forked + 16 * MIB, 1, 4 * MIB);
        pid_t grandchild = must(fork());
        if (grandchild == 0) { equal("the grandchild's", forked + 24 * MIB, 8 * MIB, 7 + 24 * MIB / 8); zeros("the grandchild's", forked, MIB); scenario_leave(4); }
        scenario_child(grandchild, 4);
        scenario_leave(3);
    }
    memset(forked, 2, MIB);
    for (int i = 0; i < 20; i++) { pid_t e = must(fork()); if (e == 0) { execl("/bin/true", "true", NULL); _exit(9); } scenario_child(e, 0); }
    scenario_child(child, 3);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    equal("beside what the parent wrote", forked + MIB, 31 * MIB, 7 + MIB / 8);
    equal("moved", p, 16 * MIB, 4);
    equal("before what was dropped", dropped, 8 * MIB, 2);
    equal("after what was dropped", dropped + 28 * MIB, 4 * MIB, 2 + 28 * MIB / 8);
    equal("before what was mapped anew", replaced, 4 * MIB, 5);
    equal("after what was mapped anew", replaced + 12 * MIB, 4 * MIB, 5 + 12 * MIB / 8);
    equal("after what was freed", freed + 8 * MIB, 8 * MIB, 6 + MIB);
    for (size_t at = 0; at < 8 * MIB; at += 4096) if (scenario_nonzero(freed + at, 4096) >= 0) equal("freed", freed + at, 4096, 6 + at / 8);
    equal("protected", protected_, 16 * MIB, 9);
    equal("after what was read", buffer + 6 * MIB, 10 * MIB, 8 + 6 * MIB / 8);
    equal("hole", hole, 4096, 11); equal("hole", hole + 40 * MIB, 8192, 12);
    zeros("hole", hole + 4096, 40 * MIB - 4096); zeros("hole", hole + 40 * MIB + 8192, 24 * MIB - 8192);
    equal("ballast", ballast, BALLAST * MIB, 1);
    equal("touched", touched, 32 * MIB, 10);
    // Nothing is left of the loading: no descriptor, and mappings are whole again.
    char link[64], name[32];
    for (int fd = 3; fd < 64; fd++) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(name, link, sizeof link - 1);
        if (n > 0) { link[n] = 0; if (strstr(link, "userfaultfd")) scenario_differs("fd %d is a userfaultfd", fd); }
    }
    return scenario_end();
}

// Writes to large memory all the time, gives parts of it back and moves them, and prints what it amounts to.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
enum { P = 4096, W = P / 8, AREAS = 6, PAGES = 2048 };
static uint64_t *area[AREAS];
static uint64_t state = 88172645463325252ull;
static uint64_t next(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
static void fail(const char *what) { perror(what); exit(1); }
static uint64_t *map(void) {
    uint64_t *p = mmap(NULL, PAGES * (size_t)P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("mmap");
    for (size_t i = 0; i < PAGES; i++) p[i * W] = i;
    return p;
}
static uint64_t digest(void) {
    uint64_t s = 7;
    for (int a = 0; a < AREAS; a++) for (size_t i = 0; i < (size_t)PAGES * W; i += 8) s = s * 31 + area[a][i];
    return s;
}
int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 400;
    int file = open(argv[0], O_RDONLY);
    char *spare = mmap(NULL, 4 * PAGES * (size_t)P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int a = 0; a < AREAS; a++) area[a] = map();
    for (long r = 0; r < rounds; r++) {
        uint64_t *p = area[next() % AREAS];
        for (int k = 0; k < 300; k++) { size_t at = next() % ((size_t)PAGES * W / 8) * 8; p[at] += next(); }
        switch (next() % 10) {
        case 0: madvise(p + next() % (PAGES - 64) * W, 64 * P, MADV_DONTNEED); break;
        case 1: memset(p + next() % (PAGES - 16) * W, 0, 16 * P); break;
        case 2: { int a = next() % AREAS; munmap(area[a], PAGES * (size_t)P); area[a] = map(); break; }
        case 3: {       // there and back: the same place, and never quite the same memory
            int a = next() % AREAS;
            void *to = spare + next() % 2 * 2 * PAGES * (size_t)P;
            if (mremap(area[a], PAGES * (size_t)P, PAGES * (size_t)P, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) fail("mremap");
            if (mremap(to, PAGES * (size_t)P, PAGES * (size_t)P, MREMAP_MAYMOVE | MREMAP_FIXED, area[a]) == MAP_FAILED) fail("mremap");
            mmap(to, PAGES * (size_t)P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
            break; }
        case 4: {
            pid_t child = fork();
            if (child < 0) fail("fork");
            if (child == 0) { for (int k = 0; k < 50; k++) p[next() % ((size_t)PAGES * W)] = next(); _exit((int)(p[8] & 31)); }
            int status = 0;
            if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) fail("waitpid");
            p[0] += WEXITSTATUS(status);
            break; }
        case 5: if (pread(file, p + next() % (PAGES - 8) * W, 3 * P, 64) != 3 * P) fail("pread"); break;    // the kernel writes
        }
        if (r % 10 == 0) { printf("%ld %llx\n", r, (unsigned long long)digest()); fflush(stdout); }
        usleep(500);
    }
    return 0;
}

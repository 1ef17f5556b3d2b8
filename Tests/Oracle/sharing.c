// Processes that share memory change it all the time, unseen by each other's page tables, and print what it amounts to.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
enum { P = 4096, PAGES = 512 };
static uint64_t state = 88172645463325252ull;
static uint64_t next(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
static uint64_t digest(const uint64_t *p, size_t pages) { uint64_t s = 7; for (size_t i = 0; i < pages * P / 8; i++) s = s * 31 + p[i]; return s; }
static void fail(const char *what) { perror(what); exit(1); }
int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 400;
    uint64_t *ours = mmap(NULL, PAGES * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = memfd_create("sharing", 0);
    if (fd < 0 || ftruncate(fd, PAGES * P)) fail("memfd");
    uint64_t *file = mmap(NULL, PAGES * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *own = malloc(PAGES * P);
    close(fd);
    memset(own, 0, PAGES * P);
    for (long r = 0; r < rounds; r++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            for (int k = 0; k < 40; k++) { ours[next() % (PAGES * P / 8)] = next(); file[next() % (PAGES * P / 8)] += next(); own[next() % (PAGES * P / 8)] = next(); }
            if (r % 5 == 0) madvise(ours + (next() % PAGES) * (P / 8), P, MADV_REMOVE);
            own[0] = digest(own, PAGES);
            _exit((int)(own[0] & 63));
        }
        int status = 0;
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) fail("waitpid");
        uint64_t k = next() % (PAGES * P / 8);
        own[k] += ours[k] ^ file[k] ^ (uint64_t)WEXITSTATUS(status);
        if (r % 7 == 0) madvise(own + (P / 8) * (1 + next() % 100), P, MADV_NORMAL);
        printf("%ld %d %llx %llx %llx\n", r, WEXITSTATUS(status), (unsigned long long)digest(ours, PAGES), (unsigned long long)digest(file, PAGES), (unsigned long long)digest(own, PAGES));
        fflush(stdout);
        usleep(2000);
    }
    return 0;
}

// Frees, advises, remaps and grows its memory all the time, and checks that fresh memory is zero and kept memory is kept.
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
enum { SLOTS = 64, P = 4096 };
static struct { char *at; size_t pages; uint64_t seed; } slot[SLOTS];
static uint64_t state = 88172645463325252ull;
static uint64_t next(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
static void fail(const char *what, long round) { printf("round %ld: %s\n", round, what); fflush(stdout); abort(); }
static void fill(int i, size_t from) { for (size_t p = from; p < slot[i].pages; p++) for (int w = 0; w < P / 8; w += 8) ((uint64_t *)(slot[i].at + p * P))[w] = slot[i].seed + p * 512 + w; }
static void verify(int i, long round) {
    for (size_t p = 0; p < slot[i].pages; p++)
        for (int w = 0; w < P / 8; w += 8) if (((uint64_t *)(slot[i].at + p * P))[w] != slot[i].seed + p * 512 + w) fail("contents are wrong", round);
}
static void zero(const char *at, size_t n, long round) { for (size_t k = 0; k < n; k += 8) if (*(const uint64_t *)(at + k)) fail("fresh memory is not zero", round); }
int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 10000;
    uint64_t sum = 0;
    static char buffer[4096];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    mallopt(M_MMAP_THRESHOLD, 100000);          // the heap's end is ours alone, once its arena is there
    *(volatile char *)malloc(1) = 0;
    char *heap = sbrk(0);
    size_t grown = 0;
    for (long r = 0; r < rounds; r++) {
        int i = next() % SLOTS;
        switch (next() % 8) {
        case 0: case 1:
            if (slot[i].at) { verify(i, r); munmap(slot[i].at, slot[i].pages * P); }
            slot[i].pages = 1 + next() % 200;
            slot[i].at = mmap(NULL, slot[i].pages * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (slot[i].at == MAP_FAILED) fail("mmap", r);
            zero(slot[i].at, slot[i].pages * P, r);
            slot[i].seed = next();
            fill(i, 0);
            break;
        case 2:
            if (!slot[i].at) break;
            verify(i, r);
            madvise(slot[i].at, slot[i].pages * P, MADV_DONTNEED);
            zero(slot[i].at, slot[i].pages * P, r);
            fill(i, 0);
            break;
        case 3:
            if (!slot[i].at) break;
            { size_t n = 1 + next() % 300, old = slot[i].pages;
              char *m = mremap(slot[i].at, old * P, n * P, MREMAP_MAYMOVE);
              if (m == MAP_FAILED) fail("mremap", r);
              slot[i].at = m;
              slot[i].pages = n;
              if (n > old) { zero(m + old * P, (n - old) * P, r); fill(i, old); } }
            break;
        case 4:
            if (!slot[i].at) break;
            // After MADV_FREE a page holds its contents or zeros; after it is written again, what was written.
            madvise(slot[i].at, slot[i].pages * P, MADV_FREE);
            for (size_t p = 0; p < slot[i].pages; p++) { uint64_t w = *(uint64_t *)(slot[i].at + p * P); if (w && w != slot[i].seed + p * 512) fail("freed memory holds something else", r); }
            fill(i, 0);
            for (size_t p = 0; p < slot[i].pages; p++) for (int w = 1; w < 8; w++) ((uint64_t *)(slot[i].at + p * P))[w] = 0;
            break;
        case 5: {
            size_t n = (1 + next() % 64) * P;
            if (grown > (8 << 20)) { sbrk(-(long)grown); grown = 0; }
            char *at = sbrk(n);
            if (at == (char *)-1) fail("sbrk", r);
            zero(at, n, r);
            memset(at, 7, n);
            grown += n;
            break; }
        case 6: if (slot[i].at) { verify(i, r); sum = sum * 31 + slot[i].seed; } break;
        case 7: {
            char *block = calloc(1, 200000 + next() % 300000);
            zero(block, 200000, r);
            memset(block, 9, 200000);
            free(block);
            break; }
        }
        if (r % 500 == 0) { printf("%ld %llx\n", r, (unsigned long long)sum); fflush(stdout); }
    }
    printf("end %llx %d\n", (unsigned long long)sum, (char *)sbrk(0) >= heap);
    return 0;
}

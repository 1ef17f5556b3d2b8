// Threads write to mappings and a heap of their own, give parts back, use deep stacks and alternate ones inside the heap; what they have at the end is printed.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
enum { THREADS = 4, P = 4096, W = P / 8, PAGES = 2048, HEAP = 3 << 20 };
static uint64_t result[THREADS];
static long rounds;
static uint64_t *map(void) {
    uint64_t *p = mmap(NULL, PAGES * (size_t)P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    for (size_t i = 0; i < PAGES; i++) p[i * W] = i;
    return p;
}
static uint64_t next(uint64_t *s) { *s ^= *s << 13; *s ^= *s >> 7; return *s ^= *s << 17; }
static uint64_t deep(int n, uint64_t x) {
    volatile uint64_t frame[W];
    for (int i = 0; i < W; i++) frame[i] = x + i;
    uint64_t r = n ? deep(n - 1, x * 3) : x;
    for (int i = 0; i < W; i += 7) r = r * 31 + frame[i];
    return r;
}
static void *work(void *number) {
    long me = (long)number;
    uint64_t s = 88172645463325252ull + me * 977, digest = 7, *p = map(), *heap = calloc(HEAP, 1);
    stack_t alternate = { .ss_sp = malloc(65536), .ss_size = 65536 };
    if (me & 1) sigaltstack(&alternate, NULL);
    for (long r = 0; r < rounds; r++) {
        for (int k = 0; k < 200; k++) { size_t at = next(&s) % (PAGES * (size_t)W); p[at] += next(&s); }
        for (int k = 0; k < 100; k++) { size_t at = next(&s) % (HEAP / 8); heap[at] ^= next(&s); }
        switch (next(&s) % 6) {
        case 0: madvise(p + next(&s) % (PAGES - 64) * W, 64 * P, MADV_DONTNEED); break;
        case 1: munmap(p, PAGES * (size_t)P); p = map(); break;
        case 2: memset(p + next(&s) % (PAGES - 16) * W, 0, 16 * P); break;
        case 3: digest += deep(200 + next(&s) % 100, next(&s)); break;
        case 4: heap = realloc(heap, HEAP + P * (next(&s) % 50)); break;
        }
        digest = digest * 31 + p[next(&s) % (PAGES * (size_t)W)] + heap[next(&s) % (HEAP / 8)];
        if (r % 8 == 0) usleep(300);
    }
    for (size_t i = 0; i < PAGES * (size_t)W; i++) digest = digest * 31 + p[i];
    for (size_t i = 0; i < HEAP / 8; i++) digest = digest * 31 + heap[i];
    result[me] = digest;
    return NULL;
}
static void ignore(int signal) { (void)signal; }
int main(int argc, char **argv) {
    rounds = argc > 1 ? atol(argv[1]) : 400;
    struct sigaction action = { .sa_handler = ignore, .sa_flags = SA_ONSTACK };
    sigaction(SIGUSR1, &action, NULL);
    mallopt(M_MMAP_THRESHOLD, 1 << 30);         // all of it in heaps
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) printf("%d %llx\n", i, (unsigned long long)result[i]);
    return 0;
}

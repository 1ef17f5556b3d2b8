// Threads made and joined, and detached ones, all the time; argument: how many.
#include "scenario.h"
static volatile int detached;
static void *body(void *u) { volatile double x = 1; for (int w = 0; w < 3000; w++) x = x * 1.01 + 1; return (void *)((long)u + 1); }
static void *alone(void *u) { __atomic_add_fetch(&detached, 1, __ATOMIC_SEQ_CST); return u; }
int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 3000, want = 0;
    for (long i = 0; i < n; i += 4) {
        pthread_t t[4], d;
        for (int k = 0; k < 4; k++) must0(pthread_create(&t[k], NULL, body, (void *)(i + k)));
        if (i % 16 == 0) { must0(pthread_create(&d, NULL, alone, NULL)); pthread_detach(d); want++; }
        for (int k = 0; k < 4; k++) { void *r; must0(pthread_join(t[k], &r)); same(i + k + 1, (long)r); }
    }
    for (int i = 0; i < 1000 && detached != want; i++) usleep(1000);
    same(want, detached);
    printf("%ld threads\n", n);
    return scenario_end();
}

// OpenMP: parallel loops, tasks, reductions and critical sections, with results that do not depend on the order.
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
enum { N = 1 << 18 };
static uint64_t a[N], b[N];
static uint64_t mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdull; return x ^ x >> 29; }
static uint64_t tree(uint64_t seed, int depth) {
    if (!depth) return mix(seed);
    uint64_t l, r;
    #pragma omp task shared(l)
    l = tree(seed * 2, depth - 1);
    #pragma omp task shared(r)
    r = tree(seed * 2 + 1, depth - 1);
    #pragma omp taskwait
    return l * 3 + r;
}
int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 100;
    omp_set_num_threads(3);
    for (int k = 0; k < rounds; k++) {
        uint64_t sum = 0, product = 1, critical = 0, result;
        #pragma omp parallel for reduction(+ : sum) schedule(dynamic, 1000)
        for (int i = 0; i < N; i++) { a[i] = mix(a[i] + i + k); sum += a[i]; }
        #pragma omp parallel for reduction(* : product)
        for (int i = 0; i < N; i++) { b[i] ^= a[N - 1 - i]; product *= b[i] | 1; }
        #pragma omp parallel
        for (int i = 0; i < 50; i++) {
            #pragma omp critical
            critical += i;
        }
        #pragma omp parallel
        #pragma omp single
        result = tree(k, 8);
        printf("%d %llx %llx %llu %llx\n", k, (unsigned long long)sum, (unsigned long long)product, (unsigned long long)critical, (unsigned long long)result);
        fflush(stdout);
    }
    return 0;
}

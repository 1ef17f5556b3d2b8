// Ranks pass a value round a ring and reduce over all; what is printed depends on the number of steps alone.
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdull; x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53ull; return x ^ x >> 33; }

int main(int argc, char **argv) {
    int rank, size, steps = atoi(argv[1]);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    enum { WORDS = 20000 };         // more than a message that is sent at once
    uint64_t *block = malloc(WORDS * 8), *other = malloc(WORDS * 8), sum = rank + 1;
    for (int s = 0; s < steps; s++) {
        for (int i = 0; i < WORDS; i++) block[i] = mix(sum + i);
        int next = (rank + 1) % size, last = (rank + size - 1) % size;
        MPI_Sendrecv(block, WORDS, MPI_UINT64_T, next, s, other, WORDS, MPI_UINT64_T, last, s, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int i = 0; i < WORDS; i++) sum = mix(sum ^ other[i]);
        uint64_t all = 0;
        MPI_Allreduce(&sum, &all, 1, MPI_UINT64_T, MPI_BXOR, MPI_COMM_WORLD);
        sum = mix(sum + all);
        if (s % 50 == 49) {
            MPI_Barrier(MPI_COMM_WORLD);
            if (rank == 0) { printf("step %d: %016llx\n", s, (unsigned long long)all); fflush(stdout); }
        }
    }
    uint64_t total = 0;
    MPI_Reduce(&sum, &total, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0) printf("done: %016llx\n", (unsigned long long)total);
    MPI_Finalize();
    return 0;
}

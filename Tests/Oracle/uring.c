// Reads and writes a file through liburing, eight operations at a time, some by the kernel's own threads, with time-outs between; what it read goes into what it writes.
#include <liburing.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
enum { DEPTH = 8, BLOCK = 512, BLOCKS = 256 };
static uint64_t mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdull; x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53ull; return x ^ x >> 33; }
static uint64_t blocks[DEPTH][BLOCK / 8], sum;
static void batch(struct io_uring *r, int file, int writing, uint64_t seed) {
    for (int i = 0; i < DEPTH; i++) {
        struct io_uring_sqe *s = io_uring_get_sqe(r);
        uint64_t at = (mix(seed + i) % (BLOCKS / DEPTH) * DEPTH + i) * BLOCK;
        if (writing) io_uring_prep_write(s, file, blocks[i], BLOCK, at); else io_uring_prep_read(s, file, blocks[i], BLOCK, at);
        if (i % 3 == 0) s->flags |= IOSQE_ASYNC;
        io_uring_sqe_set_data64(s, i);
    }
    if (io_uring_submit(r) != DEPTH) { printf("submit\n"); exit(2); }
    for (int i = 0; i < DEPTH; i++) {
        struct io_uring_cqe *c;
        int e = io_uring_wait_cqe(r, &c);
        if (e || c->res != BLOCK || c->user_data >= DEPTH) { printf("completion %d %d\n", e, e ? 0 : c->res); exit(3); }
        sum += mix(c->user_data);
        io_uring_cqe_seen(r, c);
    }
}
int main(int argc, char **argv) {
    struct io_uring r;
    int rounds = argc > 1 ? atoi(argv[1]) : 1000, file = open("ring.data", O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, BLOCK * BLOCKS) || io_uring_queue_init(DEPTH, &r, 0)) { perror("ring"); return 1; }
    for (int round = 0; round < rounds; round++) {
        batch(&r, file, 0, round * 77);
        for (int k = 0; k < 400; k++) for (int i = 0; i < DEPTH; i++) for (int w = 0; w < 8; w++) sum += blocks[i][w] = mix(blocks[i][w] + round + w + k);
        batch(&r, file, 1, round * 77);
        if (round % 64 == 0) {
            struct __kernel_timespec soon = { 0, 200000 };
            struct io_uring_sqe *s = io_uring_get_sqe(&r); struct io_uring_cqe *c;
            io_uring_prep_timeout(s, &soon, 0, 0); io_uring_submit(&r); io_uring_wait_cqe(&r, &c); io_uring_cqe_seen(&r, c);
            printf("%d %llx\n", round, (unsigned long long)sum); fflush(stdout);
        }
    }
    printf("done %llx\n", (unsigned long long)sum);
    return 0;
}

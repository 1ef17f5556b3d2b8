// Queues that are full to the brim, on both sides of the connection: nothing is lost or doubled, and it goes on.
#include "inet.h"
static long fill(int fd, uint64_t seed) {
    static char block[65536];
    long total = 0, last = -1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    // The window may open a little further: full is what stays full.
    for (int quiet = 0; quiet < 5 && total < 64 << 20; quiet = total == last ? quiet + 1 : 0) {
        last = total;
        for (;;) {
            long at = total % 65536;
            scenario_fill(block, sizeof block, seed + total / 65536 * 8192);
            long n = write(fd, block + at, 65536 - at);
            if (n <= 0) break;
            total += n;
        }
        usleep(20000);
    }
    return total;
}
static void drain(int fd, long total, uint64_t seed) {
    static char block[65536];
    for (long done = 0; done < total; ) {
        long n = total - done < 65536 ? total - done : 65536;
        if (inet_read(fd, block, n) != n) { scenario_differs("only %ld of %ld bytes", done, total); return; }
        if (scenario_compare(block, n, seed + done / 65536 * 8192) >= 0) { scenario_differs("wrong after %ld of %ld bytes", done, total); return; }
        done += n;
    }
    same(-1, recv(fd, block, 1, MSG_DONTWAIT));
    same(EAGAIN, errno);
}
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int a, b, small, other, rich, reader, l = inet_listener(4);
    inet_set(l, SOL_SOCKET, SO_RCVBUF, 8192);
    small = inet_connected(l); other = must(accept(l, NULL, NULL));
    inet_pair(&a, &b);
    // As much as root may let a sender keep: more than a receiver of any user gets by SO_RCVBUF.
    inet_pair(&rich, &reader);
    int plenty = 6 << 20;
    setsockopt(rich, SOL_SOCKET, SO_SNDBUFFORCE, &plenty, sizeof plenty);
    long wealth = fill(rich, 55);
    long there = fill(a, 11), back = fill(b, 22), narrow = fill(small, 33);
    int size = inet_option(other, SOL_SOCKET, SO_RCVBUF);
    check(there > 1 << 20 && back > 1 << 20 && narrow > 100000);
    scenario_wait();
    same(size, inet_option(other, SOL_SOCKET, SO_RCVBUF));
    drain(b, there, 11);
    drain(a, back, 22);
    drain(other, narrow, 33);
    drain(reader, wealth, 55);
    long more = fill(a, 44);
    drain(b, more, 44);
    return scenario_end();
}

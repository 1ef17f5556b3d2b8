// Blocked transfers are whole whatever interrupts them unseen: nobody handles a signal here, but for one process that wants its alarm to end a write.
#define _GNU_SOURCE
#include "scenario.h"
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <termios.h>
enum { N = 700000, KINDS = 3 };
static int ends[KINDS][2];
static volatile int over;
static unsigned char at(long i) { return i * 31 + i / 7001; }
// Kind 2: the reader waits for all, and the writer is slow.
static void *writer(void *p) {
    long k = (long)p; unsigned char *b = malloc(N);
    for (long i = 0; i < N; i++) b[i] = at(i);
    while (!over) {
        if (k == 2) { for (long i = 0; i < N; i += 70000) { same(70000, write(ends[k][1], b + i, 70000)); usleep(2000); } }
        else same(N, k == 1 ? send(ends[k][1], b, N, 0) : write(ends[k][1], b, N));
    }
    close(ends[k][1]);
    return NULL;
}
static void *reader(void *p) {
    long k = (long)p, got = 0; unsigned char *b = malloc(N);
    for (;;) {
        ssize_t n = k == 2 ? recv(ends[k][0], b, N, MSG_WAITALL) : read(ends[k][0], b, 60000);
        if (n <= 0) { same(0, n); break; }
        if (k == 2) same(N, n);
        for (long i = 0; i < n; i += 997) if (b[i] != at((got + i) % N)) { scenario_differs("kind %ld: byte %ld", k, got + i); break; }
        got += n;
        if (k != 2) usleep(1500);
    }
    same(0, got % N);
    return NULL;
}
static volatile int rang;
static void ring(int s) { rang = s; }
static void alarmed(int flags) {
    static char b[1000000]; int p[2]; must(pipe(p)); struct sigaction a = { .sa_handler = ring, .sa_flags = flags }; sigaction(SIGALRM, &a, NULL);
    while (!scenario_exists("go")) {
        rang = 0; struct itimerval t = { { 0, 80000 }, { 0, 80000 } }; setitimer(ITIMER_REAL, &t, NULL);
        same(65536, write(p[1], b, sizeof b)); same(SIGALRM, rang);
        for (long left = 65536; left;) left -= must(read(p[0], b, left));
    }
    _exit(scenario_bad);
}
static void *drain(void *p) {
    int m = must(posix_openpt(O_RDWR | O_NOCTTY)); must(grantpt(m)); must(unlockpt(m)); int t = must(open(ptsname(m), O_RDWR | O_NOCTTY));
    while (!over) same(0, tcdrain(t));
    return p;
}
// readv(2) with a 1 for the fifth argument loaded last: not to be taken for write(2), whose number that is.
static void *fifth(void *p) {
    int e[2]; must(socketpair(AF_UNIX, SOCK_STREAM, 0, e)); char b[9]; struct iovec v[3] = { { b, 3 }, { b + 3, 3 }, { b + 6, 3 } };
    while (!over) {
        long r; must(write(e[1], "xy", 2));
        __asm__ volatile("movl $19, %%eax\n\tmovl $1, %%r8d\n\tsyscall" : "=&a"(r) : "D"(e[0]), "S"(v), "d"(3) : "rcx", "r11", "r8", "memory");
        same(2, r); same(-1, recv(e[1], b, 9, MSG_DONTWAIT));
    }
    return p;
}
static volatile int cleaned;
static void clean(void *p) { (void)p; cleaned++; }
static void *stuck(void *p) { static char b[1000000]; pthread_cleanup_push(clean, NULL); same(-1, write(*(int *)p, b, sizeof b)); pthread_cleanup_pop(0); return NULL; }
int main(void) {
    pid_t child = must(fork()); if (!child) alarmed(0);
    pid_t other = must(fork()); if (!other) alarmed(SA_RESTART);
    must(pipe(ends[0])); must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[1])); must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[2]));
    pthread_t t[KINDS][2], drains, reads;
    pthread_create(&drains, NULL, drain, NULL); pthread_create(&reads, NULL, fifth, NULL);
    for (long k = 0; k < KINDS; k++) { pthread_create(&t[k][0], NULL, writer, (void *)k); pthread_create(&t[k][1], NULL, reader, (void *)k); }
    scenario_touch("ready");
    for (int rounds = 0; !scenario_exists("go"); rounds++) {
        int p[2]; must(pipe(p)); pthread_t c; void *r;
        cleaned = 0; pthread_create(&c, NULL, stuck, &p[1]); usleep(rounds < 200 ? 3000 : 60000); pthread_cancel(c); pthread_join(c, &r);
        check(r == PTHREAD_CANCELED); same(1, cleaned); close(p[0]); close(p[1]);
    }
    over = 1;
    for (int k = 0; k < KINDS; k++) for (int i = 0; i < 2; i++) pthread_join(t[k][i], NULL);
    pthread_join(drains, NULL); pthread_join(reads, NULL);
    scenario_child(child, 0); scenario_child(other, 0);
    return scenario_end();
}

// The programs that tools/bench measures, and the physical limits beside them.  bench MODE ARGUMENTS; times on stdout in seconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t c) { struct timespec t; clock_gettime(c, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static void sleep_us(long us) { struct timespec t = { 0, us * 1000 }; nanosleep(&t, NULL); }
static uint64_t x = 88172645463325252ull;
static uint64_t noise(void) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; return x; }

enum { HUGE = 2 << 20, PIECE = 1 << 20 };
static char *memory(size_t n, int advice) {
    char *m = mmap(NULL, n + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED) { perror("bench: memory"); exit(1); }
    m = (char *)(((uintptr_t)m + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    madvise(m, n, advice);
    return m;
}
static void fill(char *m, size_t n) { uint64_t *w = (uint64_t *)m; for (size_t i = 0; i < n / 8; i++) w[i] = noise(); }

// What a holder tells about itself, again and again, by pwrite: a shared mapping would be a special case.
struct state { double now, worst, resumed, forked; uint64_t steps; };

// Says how long it stood still and when it went on; "reset" begins anew, "fork" measures fork(2).
static void tell(const char *folder, char *m, size_t n, size_t dirty) {
    char path[4096], reset[4096], forks[4096];
    snprintf(path, sizeof path, "%s/state", folder); snprintf(reset, sizeof reset, "%s/reset", folder); snprintf(forks, sizeof forks, "%s/fork", folder);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    struct state s = { 0 };
    double last = now(CLOCK_MONOTONIC), before_now = now(CLOCK_REALTIME);
    for (size_t at = 0;; s.steps++) {
        double t = now(CLOCK_MONOTONIC);
        s.now = now(CLOCK_REALTIME);
        // The monotonic clock goes on in a restart where it was; before one, 20 ms pass.
        if (s.now - before_now > 0.01) s.resumed = s.now;
        before_now = s.now;
        if (t - last > s.worst) s.worst = t - last;
        last = t;
        if (pwrite(fd, &s, sizeof s, 0) != sizeof s) exit(1);
        if (access(reset, F_OK) == 0) { s.worst = 0; unlink(reset); last = now(CLOCK_MONOTONIC); }
        if (access(forks, F_OK) == 0) {
            double before = now(CLOCK_MONOTONIC); pid_t child = fork();
            if (!child) _exit(0);
            s.forked = now(CLOCK_MONOTONIC) - before;
            waitpid(child, NULL, 0);
            for (size_t i = 0; i < n; i += 4096) ((volatile char *)m)[i] = m[i];       // its pages are its own again
            s.worst = 0; pwrite(fd, &s, sizeof s, 0); unlink(forks); last = now(CLOCK_MONOTONIC);
        }
        for (size_t i = 0; i < dirty; i++) { m[at]++; at = (at + 4096) % n; }
        sleep_us(100);
    }
}

struct piece { char *m; size_t from, to; int fd, writes; };
static void *move(void *argument) {
    struct piece *p = argument;
    for (size_t at = p->from; at < p->to;) {
        size_t n = p->to - at < PIECE ? p->to - at : PIECE;
        ssize_t r = p->writes ? pwrite(p->fd, p->m + at, n, at) : pread(p->fd, p->m + at, n, at);
        if (r <= 0) { perror("bench: copy"); exit(1); }
        at += r;
    }
    return NULL;
}
static void on_all_cores(char *m, size_t n, int fd, int writes) {
    int cores = sysconf(_SC_NPROCESSORS_ONLN); pthread_t t[64]; struct piece p[64];
    if (cores > 64) cores = 64;
    for (int i = 0; i < cores; i++) { p[i] = (struct piece){ m, n / cores * i & ~4095ul, i == cores - 1 ? n : n / cores * (i + 1) & ~4095ul, fd, writes }; pthread_create(&t[i], NULL, move, &p[i]); }
    for (int i = 0; i < cores; i++) pthread_join(t[i], NULL);
}

static void *idle(void *argument) { for (;;) pause(); return argument; }
static void *nothing(void *argument) { return argument; }

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    if (!strcmp(mode, "hold")) {                            // MiB FOLDER huge|small [pages dirtied per step]
        char *m = memory(n << 20, strcmp(argv[4], "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
        fill(m, n << 20);
        tell(argv[3], m, n << 20, argc > 5 ? strtoul(argv[5], NULL, 10) : 0);
    }
    if (!strcmp(mode, "sparse")) {                          // MiB FOLDER: a tenth holds something
        char *m = memory(n << 20, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < n << 20; at += 40960) fill(m + at, 4096);
        for (size_t at = 4096; at < n << 20; at += 40960) memset(m + at, 0, 4096);
        tell(argv[3], m, n << 20, 0);
    }
    if (!strcmp(mode, "processes")) {                       // COUNT FOLDER
        for (size_t i = 1; i < n; i++) if (!fork()) for (;;) pause();
        tell(argv[3], NULL, 0, 0);
    }
    if (!strcmp(mode, "threads")) {
        pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 65536);
        pthread_t t; for (size_t i = 1; i < n; i++) if (pthread_create(&t, &a, idle, NULL)) { perror("bench: thread"); return 1; }
        tell(argv[3], NULL, 0, 0);
    }
    if (!strcmp(mode, "mappings")) {                        // neighbours that the kernel does not join
        for (size_t i = 0; i < n; i++) { char *m = mmap(NULL, 4096, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (m == MAP_FAILED) { perror("bench: mapping"); return 1; } if (!(i & 1)) *m = 1; }
        tell(argv[3], NULL, 0, 0);
    }
    if (!strcmp(mode, "descriptors")) {
        int fd = open("/dev/null", O_RDWR); for (size_t i = 0; i < n; i++) { int d = i % 2 ? dup(fd) : open("/etc/passwd", O_RDONLY); if (d < 0) { perror("bench: descriptor"); return 1; } }
        tell(argv[3], NULL, 0, 0);
    }
    if (!strcmp(mode, "write")) {                           // MiB FILE fsync|none: what parallel pwrite takes
        char *m = memory(n << 20, MADV_NOHUGEPAGE); fill(m, n << 20);
        double t = now(CLOCK_MONOTONIC);
        int fd = open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600);
        on_all_cores(m, n << 20, fd, 1);
        if (!strcmp(argv[4], "fsync")) fsync(fd);
        printf("%.6f\n", now(CLOCK_MONOTONIC) - t);
    } else if (!strcmp(mode, "read")) {                     // MiB FILE huge|small: the same bytes into fresh memory, on such pages
        int fd = open(argv[3], O_RDONLY);
        double t = now(CLOCK_MONOTONIC);
        on_all_cores(memory(n << 20, !strcmp(argv[4], "huge") ? MADV_HUGEPAGE : MADV_NOHUGEPAGE), n << 20, fd, 0);
        printf("%.6f\n", now(CLOCK_MONOTONIC) - t);
    } else if (!strcmp(mode, "loop")) {                     // what a session costs: KIND COUNT
        const char *kind = argv[2]; size_t count = strtoul(argv[3], NULL, 10); double t = now(CLOCK_MONOTONIC);
        if (!strcmp(kind, "exec")) for (size_t i = 0; i < count; i++) { pid_t p = fork(); if (!p) { execl("/bin/true", "true", NULL); _exit(1); } waitpid(p, NULL, 0); }
        if (!strcmp(kind, "open")) for (size_t i = 0; i < count; i++) close(open("/dev/null", O_RDONLY));
        if (!strcmp(kind, "thread")) for (size_t i = 0; i < count; i++) { pthread_t p; pthread_create(&p, NULL, nothing, NULL); pthread_join(p, NULL); }
        if (!strcmp(kind, "malloc")) for (size_t i = 0; i < count; i++) { char *volatile p = malloc(16 + i % 4096); p[0] = 1; free(p); }
        if (!strcmp(kind, "cpu")) { for (size_t i = 0; i < count; i++) noise(); if (!x) return 1; }
        printf("%.6f\n", now(CLOCK_MONOTONIC) - t);
    } else { fprintf(stderr, "bench: what is '%s'?\n", mode); return 2; }
    return 0;
}

// What every scenario program shares: it sets up one kernel feature, says "ready", waits for "go" and then compares by value.
// The waiting is done on files in the scenario's folder, so that it depends on nothing that is under test.
#ifndef SCENARIO_H
#define SCENARIO_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int scenario_bad;                // differences of this process

static const char *scenario_path(const char *name) {
    static __thread char path[512];
    const char *folder = getenv("SCENARIO");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : ".", name);
    return path;
}
static void scenario_touch(const char *name) {
    int fd = open(scenario_path(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) { printf("touch %s: %s\n", name, strerror(errno)); fflush(stdout); _exit(99); }
    close(fd);
}
static int scenario_exists(const char *name) { return access(scenario_path(name), F_OK) == 0; }
// Ends the process when five minutes pass: nothing here may wait for ever, and a loaded machine takes its time.
static void scenario_await(const char *name) {
    for (int i = 0; i < 60000; i++) {
        if (scenario_exists(name)) return;
        usleep(5000);
    }
    printf("waited in vain for %s\n", name);
    fflush(stdout);
    _exit(98);
}
// Who is not root becomes it in a user namespace, by exec: after that the process may be looked at again.
static void scenario_become_root(const char *argument) {
    if (!geteuid()) return;
    char self[512];
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    execlp("unshare", "unshare", "--user", "--map-root-user", "--uts", "--ipc", self, argument, NULL);
    _exit(97);
}
static void scenario_wait(void) { scenario_touch("ready"); scenario_await("go"); }

static void scenario_differs(const char *format, ...) {
    char line[1024];
    scenario_bad = 1;
    static int lines;
    if (__atomic_add_fetch(&lines, 1, __ATOMIC_RELAXED) > 20) return;
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line - 2, format, list);
    va_end(list);
    if (n > (int)sizeof line - 2) n = sizeof line - 2;
    line[n] = '\n';
    write(1, line, n + 1);
}
#define check(condition) do { if (!(condition)) scenario_differs("line %d: not so: %s", __LINE__, #condition); } while (0)
#define same(before, after) do { long long scenario_b = (long long)(before), scenario_a = (long long)(after); \
    if (scenario_b != scenario_a) scenario_differs("line %d: %s is %lld (0x%llx), was %lld (0x%llx)", __LINE__, #after, scenario_a, scenario_a, scenario_b, scenario_b); } while (0)
#define must(call) ({ __typeof__(call) scenario_r = (call); if ((long)scenario_r == -1) { scenario_differs("line %d: %s: %s", __LINE__, #call, strerror(errno)); _exit(97); } scenario_r; })
#define must0(call) do { int scenario_e = (call); if (scenario_e) { scenario_differs("line %d: %s: %s", __LINE__, #call, strerror(scenario_e)); _exit(97); } } while (0)

// A session with a terminal whose leader is outside the tree has no number in a pid namespace of the restart: there it shows as 0.
static int scenario_terminal(void) { int fd = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY); if (fd >= 0) close(fd); return fd >= 0; }
#define same_session(before, after, inside) do { long scenario_s = (after); if ((inside) || scenario_s != 0 || !scenario_terminal()) same(before, scenario_s); } while (0)

// The main process's end: "ok" if nothing differed anywhere.
static int scenario_end(void) {
    fflush(stdout);
    if (!scenario_bad) write(1, "ok\n", 3);
    return scenario_bad;
}
// A child's end.
static void scenario_leave(int status) { _exit(scenario_bad ? 96 : status); }
// Waits for a child and compares its exit status.
static void scenario_child(pid_t pid, int status) {
    int raw = 0;
    pid_t got = waitpid(pid, &raw, 0);
    if (got != pid) scenario_differs("waitpid(%d): %d %s", pid, got, strerror(errno));
    else if (!WIFEXITED(raw) || WEXITSTATUS(raw) != status) scenario_differs("child %d: status 0x%x, not exit %d", pid, raw, status);
}
static double scenario_now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static uint64_t scenario_mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdull; x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53ull; return x ^ x >> 33; }
static void scenario_fill(void *p, size_t n, uint64_t seed) { uint64_t *w = p; for (size_t i = 0; i < n / 8; i++) w[i] = scenario_mix(seed + i); }
static long scenario_compare(const void *p, size_t n, uint64_t seed) {     // index of the first wrong word, or -1
    const uint64_t *w = p;
    for (size_t i = 0; i < n / 8; i++) if (w[i] != scenario_mix(seed + i)) return (long)i;
    return -1;
}
static long scenario_nonzero(const void *p, size_t n) { const uint8_t *b = p; for (size_t i = 0; i < n; i++) if (b[i]) return (long)i; return -1; }
// The first line of a /proc file that starts with `key`; "" if there is none.
static const char *scenario_line(const char *path, const char *key, char *line, int size) {
    FILE *f = fopen(path, "re");
    while (f && fgets(line, size, f)) if (!strncmp(line, key, strlen(key))) { fclose(f); line[strcspn(line, "\n")] = 0; return line; }
    if (f) fclose(f);
    line[0] = 0;
    return line;
}
#endif

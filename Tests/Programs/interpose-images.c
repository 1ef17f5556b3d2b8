// Starts images in every way that libc has, with environments that lack the session or change LD_PRELOAD.  Each image says whether it is a
// member all the same.  Argument 1, "storm": SIGCKPT falls on the whole process group meanwhile; an image that dies of it is reported.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char me[4096];
static int failures, rounds = 1;

// 0: the runtime is in this image, the session mapped, SIGCKPT caught and not blocked, the environment names both.
static int image(int expected_entries) {
    char line[4096]; unsigned long blocked = ~0ul, caught = 0; int library = 0, entries = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f)) { sscanf(line, "SigBlk: %lx", &blocked); sscanf(line, "SigCgt: %lx", &caught); }
    fclose(f);
    const char *session = getenv("CKPT_SESSION"), *preload = getenv("LD_PRELOAD");
    int mapped = 0;
    f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) { library |= strstr(line, "/libckpt.so") != 0; mapped |= session && strstr(line, session) != 0; }
    fclose(f);
    for (char **e = environ; *e; e++) entries++;
    if (blocked >> 63) return 11;
    if (!(caught >> 63)) return 12;
    if (!library) return 13;
    if (!mapped) return 14;
    if (!preload || !strstr(preload, "libckpt.so")) return 15;
    if (expected_entries && entries != expected_entries) return 16;
    return 0;
}
static void report(const char *name, int status) {
    if (status == 0) return;
    printf("%s: status %x\n", name, status);
    failures++;
}
#define FORKED(name, ...) for (int round = 0; round < rounds; round++) { \
    pid_t p = fork(); \
    if (!p) { __VA_ARGS__; _exit(errno ? errno : 99); } \
    int status = 0; waitpid(p, &status, 0); report(name, status); }

static void forked(void) {
    char *none[] = { 0 }, *two[] = { "A=b", "LD_PRELOAD=libdl.so.2", 0 }, *a[] = { me, "image", 0 };
    FORKED("execve", execve(me, a, none))
    FORKED("execve other preload", execve(me, a, two))
    FORKED("execve wrong session", char *w[] = { "CKPT_SESSION=/none", "LD_PRELOAD=", 0 }; execve(me, a, w))
    FORKED("execve as it is", execve(me, a, environ))
    FORKED("execv", clearenv(); execv(me, a))
    FORKED("execvp", unsetenv("LD_PRELOAD"); execvp(me, a))
    FORKED("execvpe", execvpe(me, a, none))
    FORKED("execl", unsetenv("CKPT_SESSION"); execl(me, me, "image", (char *)0))
    FORKED("execlp", clearenv(); execlp(me, me, "image", (char *)0))
    FORKED("execle", execle(me, me, "image", (char *)0, none))
    FORKED("fexecve", fexecve(open(me, O_RDONLY | O_CLOEXEC), a, none))
    FORKED("execveat", execveat(AT_FDCWD, me, a, none, 0))
    FORKED("thousands of variables", char **big = calloc(5001, sizeof *big); for (int i = 0; i < 5000; i++) big[i] = "X=y"; execve(me, a, big))
    FORKED("env -i", execl("/usr/bin/env", "env", "-i", me, "image", (char *)0))
    FORKED("no such file", char *b[] = { "x", 0 }; int r = execve("/nonexistent", b, none); _exit(r == -1 && errno == ENOENT ? image(0) : 98))
}
static void spawned(void) {
    char *none[] = { 0 }, *a[] = { me, "image", 0 };
    for (int i = 0; i < rounds; i++) {
        int status = 0; pid_t p = vfork();
        if (!p) { execve(me, a, none); _exit(98); }
        waitpid(p, &status, 0); report("vfork", status);
        status = 0;
        int r = posix_spawn(&p, me, 0, 0, a, none);
        if (r) { report("posix_spawn", r); continue; }
        waitpid(p, &status, 0); report("posix_spawn", status);
        posix_spawnattr_t attribute; sigset_t s; posix_spawnattr_init(&attribute); sigemptyset(&s);
        posix_spawnattr_setsigmask(&attribute, &s); sigfillset(&s); posix_spawnattr_setsigdefault(&attribute, &s);
        posix_spawnattr_setflags(&attribute, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        r = posix_spawnp(&p, me, 0, &attribute, a, environ);
        if (r) { report("posix_spawnp", r); continue; }
        waitpid(p, &status, 0); report("posix_spawnp with a mask", status);
        posix_spawnattr_getsigmask(&attribute, &s);
        if (sigismember(&s, 64)) report("the attribute was changed", 1);
        posix_spawnattr_destroy(&attribute);
        if (posix_spawn(&p, "/nonexistent", 0, 0, a, none) != ENOENT) report("posix_spawn of nothing", 1);
    }
}
static void shells(void) {
    char command[5000];
    snprintf(command, sizeof command, "'%s' image", me);
    for (int i = 0; i < rounds; i++) {
        report("system", system(command));
        FILE *f = popen(command, "r");
        report("popen", f ? pclose(f) : 1);
    }
    char **saved = environ; clearenv();
    report("system without environment", system(command));
    FILE *f = popen(command, "r"); report("popen without environment", f ? pclose(f) : 1);
    if (environ && *environ) report("the environment stays empty", 1);
    environ = saved;
    if (system("exit 3") != 3 << 8) report("system's status", 1);
    if (system(0) != 1) report("system(0)", 1);
    struct sigaction s; sigaction(SIGINT, 0, &s); if (s.sa_handler != SIG_DFL) report("SIGINT after system", 1);
    sigset_t m; sigprocmask(0, 0, &m); if (sigismember(&m, SIGCHLD)) report("SIGCHLD after system", 1);
    // The shell has default actions, although its parent ignores SIGINT meanwhile, and dies of it.
    if (system("kill -INT $$") != SIGINT) report("SIGINT in system's shell", 1);
}
int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "image")) return image(0);
    if (readlink("/proc/self/exe", me, sizeof me - 1) < 0) return 2;
    pid_t storm = 0;
    if (argc > 1 && !strcmp(argv[1], "storm")) {
        rounds = argc > 2 ? atoi(argv[2]) : 20;
        setpgid(0, 0);
        storm = fork();
        if (!storm) {
            pid_t group = getppid(); setpgid(0, 0);
            while (getppid() == group) { syscall(SYS_kill, -group, 64); struct timespec t = { 0, 30000 }; syscall(SYS_nanosleep, &t, 0); }
            _exit(0);
        }
    }
    forked(); spawned(); shells();
    if (storm) { kill(storm, SIGKILL); waitpid(storm, 0, 0); }
    printf("%d failures\n", failures);
    return failures != 0;
}

// Attributes of the process: cwd, umask, limits, nice, affinity, scheduling, personality, prctl settings, oom_score_adj, timer slack, I/O priority.
#include "scenario.h"
#include <sys/personality.h>
enum { N = 80 };
static long long seen[2][N];
static const char *names[N];
static int count;
static char cwd[2][512];
static void note(int when, const char *name, long long value) { names[count] = name; seen[when][count++] = value; }
static long long proc(const char *path) { char t[64] = ""; int fd = open(path, O_RDONLY | O_CLOEXEC); if (fd < 0) return -errno; if (read(fd, t, 63) < 0) t[0] = 0; close(fd); return strtoll(t, NULL, 0); }
static long long hex(const char *path) { char t[64] = ""; int fd = open(path, O_RDONLY | O_CLOEXEC); if (fd < 0) return -errno; if (read(fd, t, 63) < 0) t[0] = 0; close(fd); return strtoll(t, NULL, 16); }
static void take(int w) {
    count = 0;
    char link[512];
    memset(cwd[w], 0, 512);
    readlink("/proc/self/cwd", cwd[w], 511);
    mode_t mask = umask(0);
    umask(mask);
    note(w, "umask", mask);
    for (int i = 0; i < 16; i++) { struct rlimit l; getrlimit(i, &l); note(w, "soft limit", l.rlim_cur); note(w, "hard limit", l.rlim_max); }
    note(w, "nice", getpriority(PRIO_PROCESS, 0));
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    note(w, "affinity", cpus.__bits[0]);
    note(w, "policy", sched_getscheduler(0));
    note(w, "personality", personality(0xffffffff));
    note(w, "dumpable", prctl(PR_GET_DUMPABLE));
    note(w, "keep caps", prctl(PR_GET_KEEPCAPS));
    int v = -1;
    prctl(PR_GET_CHILD_SUBREAPER, &v);
    note(w, "sub-reaper", v);
    note(w, "no new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    v = -1;
    prctl(PR_GET_PDEATHSIG, &v);
    note(w, "parent death signal", v);
    note(w, "timer slack", prctl(PR_GET_TIMERSLACK));
    note(w, "huge pages disabled", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    v = -1;
    prctl(PR_GET_TSC, &v);
    note(w, "tsc", v);
    note(w, "securebits", prctl(PR_GET_SECUREBITS));
    note(w, "machine check kill", prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    note(w, "oom_score_adj", proc("/proc/self/oom_score_adj"));
    note(w, "coredump filter", hex("/proc/self/coredump_filter"));
    note(w, "I/O priority", syscall(SYS_ioprio_get, 1, 0));
    note(w, "root", readlink("/proc/self/root", link, 511));
}
int main(void) {
    must(mkdir(scenario_path("somewhere"), 0700));
    must(chdir(scenario_path("somewhere")));
    umask(027);
    struct { int which; rlim_t soft, hard; } limits[] = {
        { RLIMIT_NOFILE, 200, 300 }, { RLIMIT_CORE, 0, 4096 }, { RLIMIT_STACK, 6 << 20, 7 << 20 }, { RLIMIT_FSIZE, 1 << 30, 2 << 30 },
        { RLIMIT_CPU, 1000, 2000 }, { RLIMIT_NICE, 0, 0 }, { RLIMIT_SIGPENDING, 500, 600 }, { RLIMIT_MSGQUEUE, 1000, 2000 }, { RLIMIT_DATA, 1l << 40, RLIM_INFINITY },
    };
    for (unsigned i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct rlimit now, l = { limits[i].soft, limits[i].hard };
        getrlimit(limits[i].which, &now);
        if (l.rlim_max > now.rlim_max) l.rlim_max = now.rlim_max;
        if (l.rlim_cur > l.rlim_max) l.rlim_cur = l.rlim_max;
        must(setrlimit(limits[i].which, &l));
    }
    must(setpriority(PRIO_PROCESS, 0, 5));
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    for (int c = 0; c < 64; c++) if (CPU_ISSET(c, &cpus)) { CPU_ZERO(&cpus); CPU_SET(c, &cpus); break; }
    must(sched_setaffinity(0, sizeof cpus, &cpus));
    struct sched_param p = { 0 };
    must(sched_setscheduler(0, SCHED_BATCH, &p));
    must(personality(ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT));
    must(prctl(PR_SET_CHILD_SUBREAPER, 1));
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_TIMERSLACK, 123456));
    must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    must(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
    syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    write(fd, "300", 3);
    close(fd);
    fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    write(fd, "0x13", 4);
    close(fd);
    take(0);
    scenario_wait();
    take(1);
    for (int i = 0; i < count; i++) if (seen[0][i] != seen[1][i]) scenario_differs("%s (%d) is %lld, was %lld", names[i], i, seen[1][i], seen[0][i]);
    check(!strcmp(cwd[0], cwd[1]));
    char here[512];
    check(getcwd(here, sizeof here) && !strcmp(here, cwd[0]));
    return scenario_end();
}

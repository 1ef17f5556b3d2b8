// Under limits that a snapshot meets: "fsize": files of at most 4 kB, "nproc": no further process, "as": little address space left.
#include "scenario.h"
int main(int argc, char **argv) {
    (void)argc;
    char *m = must(mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(m, 16 << 20, 5);
    int which = !strcmp(argv[1], "fsize") ? RLIMIT_FSIZE : !strcmp(argv[1], "nproc") ? RLIMIT_NPROC : RLIMIT_AS;
    struct rlimit l = { 1, 1 };
    if (which == RLIMIT_FSIZE) l.rlim_cur = l.rlim_max = 4096;
    if (which == RLIMIT_AS) {
        char line[128];
        unsigned long kb = 0;
        sscanf(scenario_line("/proc/self/status", "VmSize:", line, sizeof line), "VmSize: %lu", &kb);
        l.rlim_cur = l.rlim_max = (kb << 10) + (1 << 20);
    }
    must(setrlimit(which, &l));
    if (which == RLIMIT_NPROC && geteuid() != 0) { same(-1, fork()); same(EAGAIN, errno); }
    scenario_wait();
    same(-1, scenario_compare(m, 16 << 20, 5));
    struct rlimit after;
    getrlimit(which, &after);
    same(l.rlim_cur, after.rlim_cur);
    same(l.rlim_max, after.rlim_max);
    if (which == RLIMIT_FSIZE) {
        signal(SIGXFSZ, SIG_IGN);
        int fd = must(open(scenario_path("large"), O_WRONLY | O_CREAT, 0600));
        same(-1, pwrite(fd, "x", 1, 5000));
        same(EFBIG, errno);
    }
    return scenario_end();
}

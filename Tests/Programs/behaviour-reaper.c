// A sub-reaper that waits for any child of any kind, all the time: no unknown child appears, and without children it hears ECHILD at once.
#include "scenario.h"
int main(int argc, char **argv) {
    (void)argc;
    size_t size = strtoul(argv[1], NULL, 10) << 20;
    char *m = must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(m, size, 1);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    volatile pid_t *grandchild = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    scenario_touch("ready");
    while (!scenario_exists("go")) {
        int status;
        double start = scenario_now();
        pid_t got = waitpid(-1, &status, __WALL);
        if (got != -1 || errno != ECHILD) scenario_differs("an unknown child: %d 0x%x", got, status);
        if (scenario_now() - start > 0.5) scenario_differs("ECHILD came after %.1f s", scenario_now() - start);
        *grandchild = 0;
        pid_t middle = must(fork());
        if (!middle) {
            pid_t inner = fork();
            if (!inner) { usleep(1000); _exit(12); }
            *grandchild = inner;
            _exit(11);
        }
        for (int n = 0; n < 2; n++) {
            siginfo_t info = { 0 };
            if (n) got = waitid(P_ALL, 0, &info, WEXITED | __WALL) < 0 ? -1 : info.si_pid;
            else got = waitpid(-1, &status, __WALL);
            int code = n ? info.si_status : WEXITSTATUS(status);
            if (got == middle) same(11, code);
            else if (got == *grandchild) same(12, code);
            else scenario_differs("waited for %d, known are %d and %d: %s", got, middle, *grandchild, strerror(errno));
        }
    }
    return scenario_end();
}

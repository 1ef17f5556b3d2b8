// /proc/self/{exe,comm,cmdline,environ,auxv}, and a title that the program wrote over its arguments.
#include "scenario.h"
#include <sys/auxv.h>
static const char *files[] = { "/proc/self/comm", "/proc/self/cmdline", "/proc/self/environ", "/proc/self/auxv", "/proc/self/personality" };
static char before[5][65536], after[5][65536];
static long length[2][5];
static char exe[2][512];
static void take(int w, char out[5][65536]) {
    for (int i = 0; i < 5; i++) {
        int fd = open(files[i], O_RDONLY | O_CLOEXEC);
        length[w][i] = fd < 0 ? -errno : 0;
        for (long r; fd >= 0 && (r = read(fd, out[i] + length[w][i], 65536 - length[w][i])) > 0; length[w][i] += r);
        if (fd >= 0) close(fd);
    }
    readlink("/proc/self/exe", exe[w], 511);
}
int main(int argc, char **argv) {
    prctl(PR_SET_NAME, "a new name");
    memcpy(argv[0], "TITLE", 5);
    unsigned long phdr = getauxval(AT_PHDR), random = getauxval(AT_RANDOM);
    take(0, before);
    scenario_wait();
    take(1, after);
    for (int i = 0; i < 5; i++) {
        same(length[0][i], length[1][i]);
        if (length[0][i] > 0 && memcmp(before[i], after[i], length[0][i])) scenario_differs("%s is %.60s, was %.60s", files[i], after[i], before[i]);
    }
    if (strcmp(exe[0], exe[1])) scenario_differs("exe is %s, was %s", exe[1], exe[0]);
    same(phdr, getauxval(AT_PHDR));
    same(random, getauxval(AT_RANDOM));
    check(!strncmp(argv[0], "TITLE", 5));
    return scenario_end();
}

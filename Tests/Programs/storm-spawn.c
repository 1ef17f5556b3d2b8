// posix_spawn and vfork+exec of a small program, each status checked; argument: how many.
#include "scenario.h"
#include <spawn.h>
extern char **environ;
int main(int argc, char **argv) {
    if (argc > 2) return atoi(argv[2]);
    long n = argc > 1 ? atol(argv[1]) : 300;
    char self[512], number[16];
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    for (long i = 0; i < n; i++) {
        pid_t pid;
        snprintf(number, sizeof number, "%ld", i % 100);
        char *arguments[] = { argv[0], "child", number, NULL };
        if (i % 3) must0(posix_spawn(&pid, self, NULL, NULL, arguments, environ));
        else { pid = vfork(); if (!pid) { execv(self, arguments); _exit(120); } }
        scenario_child(pid, i % 100);
    }
    printf("%ld spawned\n", n);
    return scenario_end();
}

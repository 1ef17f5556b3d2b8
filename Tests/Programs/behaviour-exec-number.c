// Children that execute a program by syscall(2) are ended by no checkpoint.
#include "scenario.h"
#include <sys/syscall.h>
int main(void) {
    char *argv[] = { "true", NULL };
    scenario_touch("ready");
    for (int i = 0; !scenario_exists("go"); i++) {
        pid_t child = must(fork());
        if (!child) { if (i & 1) syscall(SYS_execve, "/bin/true", argv, environ); else syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, environ, 0); _exit(97); }
        scenario_child(child, 0);
    }
    same(-1, syscall(SYS_execve, "/nowhere", argv, environ)); same(ENOENT, errno);
    return scenario_end();
}

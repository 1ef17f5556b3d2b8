// A child executes bash in mounts that do not show the runtime: SIGCKPT is blocked in it, and bash unblocks all signals before each child.
#include "scenario.h"
#include <sys/mount.h>
int main(void) {
    pid_t child = must(fork());
    if (!child) {
        char library[512];
        snprintf(library, sizeof library, "%s", getenv("LD_PRELOAD"));
        char *end = strpbrk(library, ": ");
        if (end) *end = 0;
        *strrchr(library, '/') = 0;
        must(unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS));
        must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
        must(mount("none", library, "tmpfs", 0, NULL));
        execl("/bin/bash", "bash", "-c", "cd $SCENARIO; : > ready; while ! [ -e go ]; do read -t 0.05 x <> <(:); done; exit 5", NULL);
        _exit(97);
    }
    scenario_await("go");
    scenario_child(child, 5);
    return scenario_end();
}

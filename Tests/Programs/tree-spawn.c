// Children made by vfork and exec, posix_spawn, raw clone and raw clone3.
#include "scenario.h"
#include <linux/sched.h>
#include <spawn.h>
extern char **environ;
static void named(const char *name, int status) {
    pid_t me = getpid(), parent = getppid();
    scenario_touch(name);
    scenario_await("go");
    same(me, getpid());
    same(parent, getppid());
    scenario_leave(status);
}
int main(int argc, char **argv) {
    if (argc > 1) named(argv[1], atoi(argv[2]));
    char self[512];
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    pid_t a = vfork();
    if (!a) { execl(self, argv[0], "vfork", "11", NULL); _exit(95); }
    pid_t b;
    char *arguments[] = { argv[0], "spawn", "12", NULL };
    must0(posix_spawn(&b, self, NULL, NULL, arguments, environ));
    pid_t c = must(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (!c) named("clone", 13);
    struct clone_args plain = { .exit_signal = SIGCHLD };
    pid_t d = must(syscall(SYS_clone3, &plain, sizeof plain));
    if (!d) named("clone3", 14);
    scenario_await("vfork"); scenario_await("spawn"); scenario_await("clone"); scenario_await("clone3");
    scenario_wait();
    scenario_child(a, 11);
    scenario_child(b, 12);
    scenario_child(c, 13);
    scenario_child(d, 14);
    return scenario_end();
}

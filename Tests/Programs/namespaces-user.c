// A whole tree in a user namespace of its own (as `unshare --user --map-root-user --uts` makes one): it is root there, and nobody outside.
#include "scenario.h"
#include <sys/fsuid.h>
static void identity(char *out, int size) {
    const char *files[] = { "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups" }, *keys[] = { "Uid:", "Gid:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:" };
    int n = 0;
    for (int i = 0; i < 3; i++) {
        char line[256] = "";
        FILE *f = fopen(files[i], "r");
        if (f) { fgets(line, sizeof line, f); fclose(f); }
        n += snprintf(out + n, size - n, "%s", line);
    }
    for (int i = 0; i < 6; i++) { char line[256]; n += snprintf(out + n, size - n, "%s\n", scenario_line("/proc/self/status", keys[i], line, sizeof line)); }
    snprintf(out + n, size - n, "%d %d %d", getuid(), geteuid(), getegid());
}
int main(int argc, char **argv) {
    if (argc == 1) {        // by exec, after which the process may be looked at again
        char self[512];
        self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
        execlp("unshare", "unshare", "--user", "--map-root-user", "--uts", self, "inside", NULL);
        return 9;
    }
    char before[2048], after[2048], host[70];
    must(sethostname("nobody-outside", 14));
    identity(before, sizeof before);
    pid_t child = must(fork());
    if (!child) {
        scenario_touch("child");
        scenario_await("go");
        identity(after, sizeof after);
        if (strcmp(before, after)) scenario_differs("child: %s, was %s", after, before);
        scenario_leave(3);
    }
    scenario_await("child");
    int fd = must(open(scenario_path("mine"), O_RDWR | O_CREAT, 0600));
    scenario_wait();
    identity(after, sizeof after);
    if (strcmp(before, after)) scenario_differs("main: %s, was %s", after, before);
    gethostname(host, sizeof host);
    check(!strcmp(host, "nobody-outside"));
    must(sethostname("again", 5));
    struct stat s;
    must(fstat(fd, &s));
    same(0, s.st_uid);
    scenario_child(child, 3);
    return scenario_end();
}

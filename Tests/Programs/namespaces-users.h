// Who a process is, in a user namespace: its maps, its users, groups and capabilities.
#include "scenario.h"
static void identity(char out[8192]) {
    const char *files[] = { "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups" };
    const char *keys[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:" };
    int n = 0;
    for (int i = 0; i < 3; i++) { int fd = must(open(files[i], O_RDONLY)); n += must(read(fd, out + n, 8192 - n - 1)); close(fd); }
    out[n] = 0;
    for (int i = 0; i < 7; i++) { char line[256]; n += snprintf(out + n, 8192 - n, "%s\n", scenario_line("/proc/self/status", keys[i], line, sizeof line)); }
}
static void same_identity(const char *who, const char *before) {
    char after[8192];
    identity(after);
    if (strcmp(before, after)) scenario_differs("%s: %s, was %s", who, after, before);
}
// Maps that are written from outside.
static void file(pid_t pid, const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = must(open(path, O_WRONLY));
    must(write(fd, text, strlen(text)));
    close(fd);
}
static void enter(const char *users, const char *groups) {
    int in[2], out[2];
    char c;
    must(pipe(in)); must(pipe(out));
    pid_t main = getpid(), writer = must(fork());
    if (!writer) { must(read(in[0], &c, 1)); file(main, "uid_map", users); file(main, "gid_map", groups); _exit(0); }
    must(unshare(CLONE_NEWUSER));
    must(write(in[1], "", 1));
    must(waitpid(writer, NULL, 0));
    for (int i = 0; i < 2; i++) { close(in[i]); close(out[i]); }
}

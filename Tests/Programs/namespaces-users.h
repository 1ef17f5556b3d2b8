// Who a process is, in a user namespace: its maps, its users, groups and capabilities.
#include "scenario.h"
#include <sys/ioctl.h>
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
// As `unshare --user --map-root-user` does.
static void put(const char *file, const char *text) { int fd = must(open(file, O_WRONLY)); must(write(fd, text, strlen(text))); close(fd); }
static void enter_alone(int flags) {
    char line[2][64];
    sprintf(line[0], "0 %d 1", geteuid()); sprintf(line[1], "0 %d 1", getegid());
    must(unshare(CLONE_NEWUSER | flags));
    put("/proc/self/setgroups", "deny"); put("/proc/self/uid_map", line[0]); put("/proc/self/gid_map", line[1]);
}
// A namespace of this process belongs to its user namespace (ioctl_ns(2), NS_GET_USERNS).
static void owned_here(const char *kind) {
    char path[64];
    struct stat mine, owner;
    snprintf(path, sizeof path, "/proc/thread-self/ns/%s", kind);
    int fd = must(open(path, O_RDONLY)), users = must(ioctl(fd, 0xb701));
    must(fstat(users, &owner)); must(stat("/proc/thread-self/ns/user", &mine));
    same(mine.st_ino, owner.st_ino);
    close(users); close(fd);
}

// cgroup namespaces of a part of the tree: one whose root is the group that its maker is in, and one that its maker has moved down in.
#include "scenario.h"
static const char *line(char *buffer) { return scenario_line("/proc/self/cgroup", "0::", buffer, 512); }
static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY), r = fd < 0 ? -1 : (int)write(fd, text, strlen(text));
    if (fd >= 0) close(fd);
    return r;
}
static char group[300], deeper[340];
static pid_t part(const char *name, int in_group) {
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    char path[400], before[512], after[512];
    struct stat a, b;
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    if (in_group && group[0]) must(put(path, "0"));
    must(unshare(CLONE_NEWCGROUP));
    if (in_group) check(!strcmp(line(before), "0::/"));
    snprintf(path, sizeof path, "%s/cgroup.procs", deeper);
    if (in_group && deeper[0]) must(put(path, "0"));
    line(before);
    if (in_group && deeper[0]) check(!strcmp(before, "0::/deeper"));
    must(stat("/proc/self/ns/cgroup", &a));
    pid_t mate = must(fork());
    if (!mate) {
        scenario_await("go");
        must(stat("/proc/self/ns/cgroup", &b));
        char mine[512];
        if (strcmp(before, line(mine))) scenario_differs("the mate of %s is in %s, was in %s", name, mine, before);
        scenario_leave(6);
    }
    scenario_touch(name);
    scenario_await("go");
    if (strcmp(before, line(after))) scenario_differs("%s is in %s, was in %s", name, after, before);
    char outside[64];
    snprintf(outside, sizeof outside, "/proc/%d/ns/cgroup", getppid());
    must(stat(outside, &b));
    must(stat("/proc/self/ns/cgroup", &a));
    check(a.st_ino != b.st_ino);
    scenario_child(mate, 6);
    scenario_leave(5);
    return 0;
}
int main(void) {
    const char *mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
    char members[300], before[512], after[512];
    for (int i = 0; i < 2 && !group[0]; i++) {
        snprintf(members, sizeof members, "%s/cgroup.procs", mounts[i]);
        snprintf(group, sizeof group, "%s/ckpt-space-%d-%ld", mounts[i], getpid(), time(NULL));
        snprintf(deeper, sizeof deeper, "%s/deeper", group);
        if (access(members, W_OK) || mkdir(group, 0755)) group[0] = deeper[0] = 0; else if (mkdir(deeper, 0755)) deeper[0] = 0;
    }
    pid_t a = part("alpha", 1), b = part("beta", 0);
    line(before);
    scenario_wait();
    line(after);
    if (strcmp(before, after)) scenario_differs("in %s, was in %s", after, before);
    scenario_child(a, 5); scenario_child(b, 5);
    if (deeper[0]) rmdir(deeper);
    if (group[0]) rmdir(group);
    return scenario_end();
}

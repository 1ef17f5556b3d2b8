// A process in a control group of its own (cgroup v2), the other in that of the tree; "gone": the group has been removed meanwhile.
#include "scenario.h"
static const char *line(char *buffer) { return scenario_line("/proc/self/cgroup", "0::", buffer, 512); }
static void put(const char *path, const char *text) { int fd = must(open(path, O_WRONLY | O_CREAT, 0666)); must(write(fd, text, strlen(text))); close(fd); }
int main(void) {
    char group[256] = "", members[300], before[512], after[512], mine[512];
    const char *mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
    for (int i = 0; i < 2 && !group[0]; i++) {
        snprintf(members, sizeof members, "%s/cgroup.procs", mounts[i]);
        snprintf(group, sizeof group, "%s/ckpt-test-%d-%ld", mounts[i], getpid(), time(NULL));
        if (access(members, W_OK) || mkdir(group, 0755)) group[0] = 0;
    }
    put(scenario_path("group"), group[0] ? group : "none");
    line(before);
    pid_t child = must(fork());
    if (!child) {
        snprintf(members, sizeof members, "%s/cgroup.procs", group);
        if (group[0]) { put(members, "0"); line(mine); check(strcmp(before, mine)); }
        line(mine);
        scenario_touch("moved");
        scenario_await("go");
        line(after);
        if (strcmp(after, scenario_exists("gone") ? before : mine)) scenario_differs("the child is in %s, was in %s", after, mine);
        scenario_leave(4);
    }
    scenario_await("moved");
    scenario_wait();
    line(after);
    if (strcmp(before, after)) scenario_differs("in %s, was in %s", after, before);
    scenario_child(child, 4);
    if (group[0]) rmdir(group);
    return scenario_end();
}

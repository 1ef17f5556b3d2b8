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

// Inotify: unread events that can't be made again.  Argument: "merged", two kinds in one; "full", as many as fit, and no overflow; "long", too much.
#include "scenario.h"
#include <linux/capability.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
static int queue;
static int unread(void) { int n = -1; must(ioctl(queue, FIONREAD, &n)); return n; }
// Who may not keep the mark of a set-uid file loses it with the contents: that is one event of both.
static void truncate_marked(const char *path) {
    struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct d[2];
    must(syscall(SYS_capget, &h, d));
    d[0].effective &= ~(1u << CAP_FSETID);
    must(syscall(SYS_capset, &h, d));
    must(truncate(path, 0));
    _exit(0);
}
int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    char name[320] = "watched/";
    must(mkdir(scenario_path("watched"), 0700));
    must(close(must(open(scenario_path("file"), O_CREAT | O_RDWR, 0600))));
    queue = must(inotify_init1(IN_NONBLOCK));
    must(inotify_add_watch(queue, scenario_path("watched"), IN_CREATE)); must(inotify_add_watch(queue, scenario_path("file"), IN_ATTRIB | IN_MODIFY));
    if (!strcmp(kind, "merged")) {
        must(chmod(scenario_path("file"), 04755));
        pid_t pid = must(fork());
        if (!pid) truncate_marked(scenario_path("file"));
        scenario_child(pid, 0);
        same(32, unread());
    }
    if (!strcmp(kind, "full")) {
        FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
        int most = 0; check(fscanf(f, "%d", &most) == 1); fclose(f);
        for (int i = 0; i < most; i++) must(i & 1 ? truncate(scenario_path("file"), 0) : chmod(scenario_path("file"), 0600));
        same(most * 16, unread());
    }
    if (!strcmp(kind, "long")) {
        memset(name + 8, 'n', 250);
        for (int i = 0; unread() <= 4 << 20; i++) { snprintf(name + 240, sizeof name - 240, "%d", i); must(close(must(open(scenario_path(name), O_CREAT | O_WRONLY, 0600)))); must(unlink(scenario_path(name))); }
    }
    int before = unread();
    check(before > 0);
    scenario_wait();
    same(before, unread());
    return scenario_end();
}

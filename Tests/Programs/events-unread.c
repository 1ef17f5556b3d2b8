// Inotify: events that nobody has read stay in their order, with watch, kind, name and pairs of moves; the next ones come behind them.
// A second queue with the same watches, read at once, says what is in the first.  Argument: which events.
#include "scenario.h"
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
static int queue, twin, watches[8], count;
static char was[1 << 20] __attribute__((aligned(8))), is[1 << 20] __attribute__((aligned(8)));
static int watch(const char *name, uint32_t mask) {
    int w = must(inotify_add_watch(queue, scenario_path(name), mask));
    same(w, must(inotify_add_watch(twin, scenario_path(name), mask)));
    return watches[count++] = w;
}
static void unwatch(int w) { must(inotify_rm_watch(queue, w)); must(inotify_rm_watch(twin, w)); }
static void create(const char *name) { must(close(must(open(scenario_path(name), O_CREAT | O_EXCL | O_RDWR, 0600)))); }
static void move(const char *a, const char *b) { char from[512]; snprintf(from, sizeof from, "%s", scenario_path(a)); must(rename(from, scenario_path(b))); }
static int unread(int fd) { int n = -1; must(ioctl(fd, FIONREAD, &n)); return n; }
static void happen_inside(const char *folder) {
    char name[600], other[600], sub[600];
    snprintf(name, sizeof name, "%s/%s", folder, "a"); snprintf(other, sizeof other, "%s/b \n\xff", folder); snprintf(sub, sizeof sub, "%s/sub", folder);
    char byte = 'x';
    int fd = must(open(scenario_path(name), O_CREAT | O_EXCL | O_RDWR, 0600));
    must(pwrite(fd, &byte, 1, 0)); must(pread(fd, &byte, 1, 0)); must(fchmod(fd, 0640)); must(ftruncate(fd, 0)); must(close(fd));
    must(close(must(open(scenario_path(name), O_RDONLY))));
    move(name, other); must(unlink(scenario_path(other)));
    must(mkdir(scenario_path(sub), 0700)); must(chmod(scenario_path(sub), 0750));
    DIR *d = opendir(scenario_path(sub)); while (readdir(d)) {} closedir(d);
    must(rmdir(scenario_path(sub)));
    d = opendir(scenario_path(folder)); while (readdir(d)) {} closedir(d);
    char longest[700]; int n = snprintf(longest, sizeof longest, "%s/", folder); memset(longest + n, 'n', 255); longest[n + 255] = 0;
    create(longest); must(unlink(scenario_path(longest)));
}
static void happen(const char *kind) {
    watch("from", IN_ALL_EVENTS); watch("to", IN_ALL_EVENTS | IN_ONLYDIR); watch("file", IN_ALL_EVENTS); watch("gone", IN_ALL_EVENTS);
    int dropped = watch("dropped", IN_CREATE);
    watch("once", IN_CREATE | IN_ONESHOT);
    if (!strcmp(kind, "overflow")) {
        // Some are read from the full queue, and others come behind the overflow.
        for (int last = -1; unread(queue) != last;) {
            last = unread(queue);
            for (int i = 0; i < 64; i++) { must(chmod(scenario_path("file"), 0600)); must(truncate(scenario_path("file"), i & 1)); }
        }
        must(read(queue, is, 320)); must(read(twin, was, 320));
        create("to/late"); must(unlink(scenario_path("to/late")));
        return;
    }
    happen_inside("from");
    create("from/x"); move("from/x", "to/y"); move("to/y", "outside"); move("outside", "from/z"); must(mkdir(scenario_path("from/d"), 0700)); move("from/d", "to/d"); must(rmdir(scenario_path("to/d"))); must(unlink(scenario_path("from/z")));
    must(truncate(scenario_path("file"), 10)); move("file", "moved"); move("moved", "file");
    must(unlink(scenario_path("gone")));
    create("dropped/a"); unwatch(dropped);
    create("once/a"); create("once/b");
    happen_inside("to");
    if (!strcmp(kind, "unmount")) { must(umount(scenario_path("mounted"))); }
}
// Cookies are others; halves of one move have the same.
static void compare(int n) {
    uint32_t pairs[64][2]; int known = 0;
    for (char *a = was, *b = is; a < was + n; a += 16 + ((struct inotify_event *)a)->len, b += 16 + ((struct inotify_event *)b)->len) {
        struct inotify_event *x = (void *)a, *y = (void *)b;
        if (x->wd != y->wd || x->mask != y->mask || x->len != y->len || memcmp(x->name, y->name, x->len) || !x->cookie != !y->cookie) { scenario_differs("event at %ld: %d 0x%x %s, was %d 0x%x %s", (long)(a - was), y->wd, y->mask, y->len ? y->name : "", x->wd, x->mask, x->len ? x->name : ""); return; }
        int k = 0;
        while (k < known && pairs[k][0] != x->cookie && pairs[k][1] != y->cookie) k++;
        if (k == known && known < 64) { pairs[k][0] = x->cookie; pairs[k][1] = y->cookie; known++; }
        if (k < known) { same(1, pairs[k][0] == x->cookie && pairs[k][1] == y->cookie); }
    }
}
int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "kinds";
    for (int i = 0; i < 6; i++) must(mkdir(scenario_path((const char *[]) { "from", "to", "dropped", "once", "mounted", "later" }[i]), 0700));
    create("file"); create("gone");
    queue = must(inotify_init1(IN_NONBLOCK)); twin = must(inotify_init1(IN_NONBLOCK));
    if (!strcmp(kind, "unmount")) { must(mount("scenario", scenario_path("mounted"), "tmpfs", 0, NULL)); create("mounted/file"); watch("mounted", IN_CREATE); watch("mounted/file", IN_MODIFY); }
    happen(kind);
    int n = unread(twin);
    same(n, unread(queue)); check(n > 1000);
    same(n, must(read(twin, was, sizeof was))); must(close(twin));
    scenario_wait();
    same(n, unread(queue));
    // Nobody watches "once" any more, where its event has come.
    create("once/c"); must(close(must(open(scenario_path("file"), O_WRONLY))));
    int after = strcmp(kind, "overflow") ? 32 : 32 + 48;
    same(n + after, must(read(queue, is, sizeof is)));
    compare(n);
    struct inotify_event *last = (void *)(is + n + after - 16); same(IN_CLOSE_WRITE, last->mask); same(!strcmp(kind, "unmount") ? 5 : 3, last->wd);
    same(watches[count - 1] + 1, must(inotify_add_watch(queue, scenario_path("later"), IN_CREATE)));
    return scenario_end();
}

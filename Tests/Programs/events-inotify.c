// Inotify: watches of files and folders keep their numbers and masks, with gaps between them; events come as before.
#include "scenario.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/inotify.h>
static int fd;
static char buffer[8192] __attribute__((aligned(8)));
// Reads what comes in a moment, and looks for one event.
static int comes(int wd, uint32_t mask, const char *name) {
    int found = 0;
    struct pollfd p = { fd, POLLIN, 0 };
    while (poll(&p, 1, 200) == 1) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        for (char *e = buffer; n > 0 && e < buffer + n; e += sizeof(struct inotify_event) + ((struct inotify_event *)e)->len) {
            struct inotify_event *i = (void *)e;
            if (i->wd == wd && (i->mask & mask) && (!name || (i->len && !strcmp(i->name, name)))) found++;
        }
    }
    return found;
}
static int unread(void) { int n = -1; must(ioctl(fd, FIONREAD, &n)); return n; }
int main(void) {
    char folder[512], deep[512], file[512];
    snprintf(folder, sizeof folder, "%s", scenario_path("watched")); must(mkdir(folder, 0700));
    snprintf(deep, sizeof deep, "%s", scenario_path("watched/deep folder")); must(mkdir(deep, 0700));
    snprintf(file, sizeof file, "%s", scenario_path("watched/file")); must(close(must(open(file, O_CREAT | O_WRONLY, 0600))));
    fd = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    int queue = must(inotify_init());       // one without watches
    int wd[6];
    for (int i = 0; i < 6; i++) {
        char name[512]; snprintf(name, sizeof name, "%s", scenario_path((const char *[]) { "w0", "w1", "w2", "w3", "w4", "w5" }[i])); must(mkdir(name, 0700));
        wd[i] = must(inotify_add_watch(fd, name, IN_CREATE)); same(i + 1, wd[i]);
    }
    for (int i = 0; i < 6; i++) if (i != 2) must(inotify_rm_watch(fd, wd[i]));
    int on_folder = must(inotify_add_watch(fd, folder, IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)), on_deep = must(inotify_add_watch(fd, deep, IN_ALL_EVENTS | IN_ONLYDIR)),
        on_file = must(inotify_add_watch(fd, file, IN_MODIFY | IN_CLOSE_WRITE)), once = must(inotify_add_watch(fd, scenario_path("w5"), IN_CREATE | IN_ONESHOT));
    while (read(fd, buffer, sizeof buffer) > 0) {}
    scenario_wait();
    same(IN_NONBLOCK, fcntl(fd, F_GETFL) & O_NONBLOCK); same(0, fcntl(queue, F_GETFL) & O_NONBLOCK);
    same(0, unread());
    char name[600];
    snprintf(name, sizeof name, "%s/new", folder); must(close(must(open(name, O_CREAT | O_WRONLY, 0600)))); same(1, comes(on_folder, IN_CREATE, "new"));
    char moved[600]; snprintf(moved, sizeof moved, "%s/moved", folder); must(rename(name, moved)); same(2, comes(on_folder, IN_MOVED_FROM | IN_MOVED_TO, NULL));
    int w = must(open(file, O_WRONLY)); must(write(w, "m", 1)); must(close(w)); same(2, comes(on_file, IN_MODIFY | IN_CLOSE_WRITE, NULL));
    snprintf(name, sizeof name, "%s/x", deep); must(close(must(open(name, O_CREAT | O_WRONLY, 0600)))); check(comes(on_deep, IN_ALL_EVENTS, "x") >= 3);
    must(mkdir(scenario_path("w2/y"), 0700)); same(1, comes(wd[2], IN_CREATE, "y"));
    must(mkdir(scenario_path("w5/y"), 0700)); same(1, comes(once, IN_CREATE, "y")); must(mkdir(scenario_path("w5/z"), 0700)); same(0, comes(once, IN_CREATE, "z"));
    must(mkdir(scenario_path("w1/y"), 0700)); same(0, comes(wd[1], IN_CREATE, NULL));
    same(on_folder, inotify_add_watch(fd, folder, IN_CREATE)); same(once + 1, inotify_add_watch(fd, scenario_path("w1"), IN_CREATE));
    must(inotify_rm_watch(fd, on_deep)); same(1, comes(on_deep, IN_IGNORED, NULL));
    return scenario_end();
}

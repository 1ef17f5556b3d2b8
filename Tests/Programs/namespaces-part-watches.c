// Inotify queues of a child in mounts of its own: they watch what only it has, what is bound, what lies outside too, and what its mounts hide.
#include "namespaces-mounts.h"
#include <sys/inotify.h>
static char a[600], b[600], c[600];
static int comes(int queue, int wd, uint32_t mask, const char *name) {
    static char buffer[4096] __attribute__((aligned(8)));
    int n = read(queue, buffer, sizeof buffer), found = 0;
    for (struct inotify_event *e = (void *)buffer; (char *)e < buffer + n; e = (void *)((char *)(e + 1) + e->len)) found |= e->wd == wd && e->mask & mask && (!name || (e->len && !strcmp(e->name, name)));
    if (!found) scenario_differs("no event %x of watch %d", mask, wd);
    return found;
}
static int queue_at(const char *path, uint32_t mask, int *wd) { int q = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)); *wd = must(inotify_add_watch(q, path, mask)); return q; }
int main(void) {
    char *all[] = { a, b, c };
    for (int i = 0; i < 3; i++) { snprintf(all[i], 600, "%s", scenario_path((const char *[]) { "from", "bound", "memory" }[i])); must(mkdir(all[i], 0755)); }
    must(mkdir(mounts_at(c, "under"), 0755)); must(mkdir(mounts_at(a, "deep"), 0755));
    int hidden_wd, hidden = queue_at(mounts_at(c, "under"), IN_CREATE, &hidden_wd);         // the child has it too
    pid_t child = must(fork());
    if (!child) {
        mounts_unshare(0);
        must(mount(a, b, NULL, MS_BIND, NULL));
        must(mount("memory", c, "tmpfs", 0, "size=1m"));
        must(mkdir(mounts_at(c, "under"), 0700)); must(mkdir(mounts_at(c, "far"), 0700)); must(mkdir(mounts_at(c, "far/inner"), 0700)); mounts_write(mounts_at(c, "kept"), "one");
        int own, file, bound, outside, q = queue_at(mounts_at(c, "under"), IN_CREATE, &own), deep;
        file = must(inotify_add_watch(q, mounts_at(c, "kept"), IN_MODIFY)); deep = must(inotify_add_watch(q, mounts_at(c, "far/inner"), IN_CREATE));
        bound = must(inotify_add_watch(q, mounts_at(b, "deep"), IN_DELETE)); outside = must(inotify_add_watch(q, "/usr/share", IN_DELETE_SELF));
        scenario_touch("child");
        scenario_await("go");
        mounts_write(mounts_at(c, "under/new"), ""); comes(q, own, IN_CREATE, "new");
        mounts_write(mounts_at(c, "kept"), "two"); comes(q, file, IN_MODIFY, NULL);
        must(mkdir(mounts_at(c, "far/inner/x"), 0700)); comes(q, deep, IN_CREATE, "x");
        mounts_write(mounts_at(a, "deep/gone"), ""); must(unlink(mounts_at(a, "deep/gone"))); comes(q, bound, IN_DELETE, "gone");
        same(0, inotify_rm_watch(q, outside)); same(outside + 1, inotify_add_watch(q, "/", IN_DELETE_SELF));
        scenario_touch("seen");
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    scenario_await("seen");
    char byte; same(-1, read(hidden, &byte, 1)); same(EAGAIN, errno);         // what the child has made there is another's
    mounts_write(mounts_at(c, "under/other"), ""); comes(hidden, hidden_wd, IN_CREATE, "other");
    scenario_child(child, 3);
    return scenario_end();
}

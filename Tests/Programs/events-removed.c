// Inotify: each watched file that somebody removes is told of once, and so is that its watch has ended; the others are still watched.
#include "scenario.h"
#include <sys/inotify.h>
enum { FILES = 400 };
static const char *file(int i) { char name[32]; snprintf(name, sizeof name, "watched/%d", i); return scenario_path(name); }
static int told[FILES + 1];             // by watch: 1 removed, 2 ended
int main(void) {
    static char buffer[1 << 16] __attribute__((aligned(8)));
    must(mkdir(scenario_path("watched"), 0700));
    int queue = must(inotify_init1(IN_NONBLOCK)), n;
    for (int i = 0; i < FILES; i++) {
        must(close(must(open(file(i), O_CREAT | O_EXCL | O_WRONLY, 0600))));
        same(i + 1, must(inotify_add_watch(queue, file(i), IN_DELETE_SELF)));
    }
    scenario_wait();
    int removed = 0;
    for (int i = 0; i < FILES; i++) { if (access(file(i), F_OK)) removed++; else must(unlink(file(i))); }
    check(removed >= 60);
    while ((n = read(queue, buffer, sizeof buffer)) > 0)
        for (struct inotify_event *e = (void *)buffer; (char *)e < buffer + n; e++) {
            check(e->wd >= 1 && e->wd <= FILES);
            same(e->mask == IN_DELETE_SELF ? 0 : 1, told[e->wd]++);
            check(e->mask == IN_DELETE_SELF || e->mask == IN_IGNORED);
        }
    for (int i = 1; i <= FILES; i++) same(2, told[i]);
    return scenario_end();
}

// Inotify: what a program outside of the tree does to a watched folder during checkpoints is told once, and in its order.
#include "scenario.h"
#include <sys/inotify.h>
int main(void) {
    static char buffer[1 << 16] __attribute__((aligned(8)));
    must(mkdir(scenario_path("watched"), 0700));
    int queue = must(inotify_init1(IN_NONBLOCK)), next = 0, n;
    must(inotify_add_watch(queue, scenario_path("watched"), IN_CREATE));
    scenario_wait();
    while ((n = read(queue, buffer, sizeof buffer)) > 0)
        for (char *e = buffer; e < buffer + n; e += sizeof(struct inotify_event) + ((struct inotify_event *)e)->len) {
            struct inotify_event *i = (void *)e;
            same(IN_CREATE, i->mask);
            if (i->len) same(next, atoi(i->name));
            next++;
        }
    printf("%d\n", next);
    return scenario_end();
}

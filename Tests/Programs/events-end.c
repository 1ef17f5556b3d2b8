// Inotify: a watched file that somebody removes, whose queue was read empty: it is told of, and its watch has ended; the other is still watched.
#include "scenario.h"
#include <sys/inotify.h>
#include <sys/socket.h>
int main(void) {
    struct inotify_event e[8];
    int queue = must(inotify_init1(IN_NONBLOCK)), pair[2];
    const char *gone = "gone", *kept = "kept";
    scenario_touch(gone); scenario_touch(kept);
    same(1, must(inotify_add_watch(queue, scenario_path(gone), IN_DELETE_SELF))); same(2, must(inotify_add_watch(queue, scenario_path(kept), IN_DELETE_SELF)));
    // What is queued here is looked at between the queue's survey and its record.
    must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)); same(1, write(pair[0], "x", 1));
    same(-1, read(queue, e, sizeof e));
    scenario_wait();
    must(unlink(scenario_path(kept)));
    same(4 * 16, read(queue, e, sizeof e));
    for (int i = 0; i < 4; i++) { same(i < 2 ? 1 : 2, e[i].wd); same(i & 1 ? IN_IGNORED : IN_DELETE_SELF, e[i].mask); }
    return scenario_end();
}

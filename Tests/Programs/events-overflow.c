// Inotify: events that nobody has read when the checkpoint is taken; what is found in the queue is told, then watches go on as before.
#include "scenario.h"
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
static int fd;
static void make(const char *name) { char path[600]; snprintf(path, sizeof path, "%s/%s", scenario_path("watched"), name); must(close(must(open(path, O_CREAT | O_WRONLY | O_EXCL, 0600)))); }
static void tell(void) {
    static char buffer[65536] __attribute__((aligned(8)));
    int n = must(read(fd, buffer, sizeof buffer));
    for (char *e = buffer; e < buffer + n; e += sizeof(struct inotify_event) + ((struct inotify_event *)e)->len) {
        struct inotify_event *i = (void *)e;
        if (i->mask & IN_Q_OVERFLOW) printf("overflow of %d\n", i->wd); else printf("%d: 0x%x %s\n", i->wd, i->mask, i->len ? i->name : "");
    }
    fflush(stdout);
}
int main(void) {
    must(mkdir(scenario_path("watched"), 0700)); must(mkdir(scenario_path("gone"), 0700));
    fd = must(inotify_init1(IN_NONBLOCK));
    int gone = must(inotify_add_watch(fd, scenario_path("gone"), IN_CREATE)), kept = must(inotify_add_watch(fd, scenario_path("watched"), IN_CREATE | IN_DELETE_SELF)), set = must(epoll_create1(0));
    same(1, gone); same(2, kept);
    must(inotify_rm_watch(fd, gone));
    struct epoll_event e = { EPOLLIN, { 0 } };
    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
    make("a"); make("b");
    scenario_wait();
    same(1, epoll_wait(set, &e, 1, 5000));
    tell();
    same(0, epoll_wait(set, &e, 1, 0));
    unlink(scenario_path("watched/after"));         // made by the run that was not restarted
    make("after");
    same(1, epoll_wait(set, &e, 1, 5000));
    int unread = 0;
    must(ioctl(fd, FIONREAD, &unread)); check(unread >= 16 + 16);
    same(3, must(inotify_add_watch(fd, scenario_path("gone"), IN_CREATE)));
    return scenario_end();
}

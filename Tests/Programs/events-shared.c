// Inotify: a queue with unread events that two processes have, one that is in a message, and edges of an epoll instance, which are told once more.
#include "scenario.h"
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
static int unread(int fd) { int n = -1; must(ioctl(fd, FIONREAD, &n)); return n; }
static int watching(const char *folder) {
    int fd = must(inotify_init1(IN_NONBLOCK | O_CLOEXEC));
    must(mkdir(scenario_path(folder), 0700));
    must(inotify_add_watch(fd, scenario_path(folder), IN_CREATE | IN_ONLYDIR));
    return fd;
}
static void make(const char *path) { must(mkdir(scenario_path(path), 0700)); }
static void expect(int fd, const char *name, int left) {
    char event[32] __attribute__((aligned(8)));
    same(32, read(fd, event, sizeof event));
    struct inotify_event *e = (void *)event;
    same(IN_CREATE | IN_ISDIR, e->mask); same(0, strcmp(name, e->name)); same(left, unread(fd));
}
int main(void) {
    int shared = watching("shared"), sent = watching("sent"), pair[2], set = must(epoll_create1(0)), turn[2];
    must(pipe(turn));
    struct epoll_event e = { EPOLLIN | EPOLLET, { .u32 = 7 } };
    must(epoll_ctl(set, EPOLL_CTL_ADD, shared, &e));
    make("shared/one"); make("shared/two"); make("shared/three"); make("sent/one");
    same(1, epoll_wait(set, &e, 1, 0)); same(0, epoll_wait(set, &e, 1, 0));
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    char byte = 'x', control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof(int)); memcpy(CMSG_DATA(c), &sent, sizeof sent);
    must(sendmsg(pair[0], &m, 0)); must(close(sent));
    pid_t child = must(fork());
    if (!child) { must(read(turn[0], &byte, 1)); expect(shared, "two", 32); scenario_leave(0); }
    scenario_wait();
    expect(shared, "one", 64);
    must(write(turn[1], "x", 1));
    scenario_child(child, 0);
    expect(shared, "three", 0);
    make("shared/four");
    same(1, epoll_wait(set, &e, 1, 5000)); same(7, e.data.u32); same(32, unread(shared));
    must(recvmsg(pair[1], &m, 0));
    memcpy(&sent, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof sent);
    expect(sent, "one", 0);
    return scenario_end();
}

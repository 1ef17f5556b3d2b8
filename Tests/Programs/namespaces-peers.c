// Unix sockets inside of a pid namespace: each shows the pid of who connected it there (SO_PEERCRED), who may have ended; queues, epoll, a connection that waits.
#include "scenario.h"
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
static pid_t peer(int s) { struct ucred c = { 0 }; socklen_t n = sizeof c; must(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &n)); return c.pid; }
static struct sockaddr_un place(const char *name) {
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "%s", scenario_path(name));
    return a;
}
static void give(int way, int *pair) {
    char room[CMSG_SPACE(8)] = { 0 };
    struct iovec v = { "x", 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(8);
    memcpy(CMSG_DATA(c), pair, 8);
    must(sendmsg(way, &m, 0));
}
static void take(int way, int *pair) {
    char room[CMSG_SPACE(8)], b;
    struct iovec v = { &b, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    must(recvmsg(way, &m, 0));
    memcpy(pair, CMSG_DATA(CMSG_FIRSTHDR(&m)), 8);
}
static void expect(int s, const char *text) { char b[32] = ""; same(strlen(text), recv(s, b, strlen(text), 0)); if (strcmp(b, text)) scenario_differs("'%s', was '%s'", b, text); }
static void first(void) {
    int own[2], left[2], way[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, own)); must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, way));
    pid_t ended = must(fork());
    if (!ended) { int pair[2]; must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)); give(way[1], pair); _exit(0); }
    take(way[0], left);
    scenario_child(ended, 0);
    pid_t server = must(fork());
    struct sockaddr_un a = place("name");
    if (!server) {
        int l = must(socket(AF_UNIX, SOCK_STREAM, 0)), set = must(epoll_create1(0));
        must(bind(l, (void *)&a, sizeof a)); must(listen(l, 5));
        scenario_touch("listening");
        int s = must(accept(l, NULL, NULL));
        struct epoll_event e = { EPOLLIN, { .fd = s } }, le = { EPOLLIN, { .fd = l } };
        must(epoll_ctl(set, EPOLL_CTL_ADD, s, &e)); must(epoll_ctl(set, EPOLL_CTL_ADD, l, &le));
        scenario_touch("accepted");
        scenario_await("go");
        same(1, peer(s)); same(getpid(), peer(l)); same(1, peer(own[1])); same(ended, peer(left[1]));
        same(2, epoll_wait(set, (struct epoll_event[2]){}, 2, 5000));
        expect(s, "to the server");
        int later = must(accept(l, NULL, NULL));
        same(1, peer(later));
        must(send(later, "at last", 7, 0));
        expect(own[1], "own"); expect(left[1], "left");
        scenario_leave(0);
    }
    scenario_await("listening");
    int c = must(socket(AF_UNIX, SOCK_STREAM, 0)), waiting = must(socket(AF_UNIX, SOCK_STREAM, 0));
    must(connect(c, (void *)&a, sizeof a));
    scenario_await("accepted");
    must(connect(waiting, (void *)&a, sizeof a));
    must(send(c, "to the server", 13, 0)); must(send(own[0], "own", 3, 0)); must(send(left[0], "left", 4, 0));
    scenario_touch("inside");
    scenario_await("go");
    same(server, peer(c)); same(server, peer(waiting)); same(1, peer(own[0])); same(ended, peer(left[0]));
    expect(waiting, "at last");
    scenario_child(server, 0);
    scenario_leave(0);
}
int main(int argc, char **argv) {
    scenario_become_root(argc > 1 ? argv[1] : NULL);
    int outer[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, outer));
    must(unshare(CLONE_NEWPID));
    pid_t child = must(fork());
    if (!child) {
        same(0, peer(outer[0]));
        if (argc > 1) must(unshare(CLONE_NEWNET));
        first();
    }
    scenario_await("inside");
    scenario_wait();
    same(getpid(), peer(outer[0]));
    scenario_child(child, 0);
    return scenario_end();
}

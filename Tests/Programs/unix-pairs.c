// Socket pairs of every type: what is queued in both directions, half-closed ends, peers that are gone, flags, options, peer credentials.
#include "scenario.h"
#include <sys/socket.h>
#include <sys/un.h>
static char got[70000];
static void closed(int fd) { same(0, recv(fd, got, 10, 0)); }
int main(void) {
    int stream[2], packet[2], datagram[2], half[2], gone[2], reset[2], between[2], dup1;
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream)); must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packet)); must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, datagram));
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, half)); must(socketpair(AF_UNIX, SOCK_STREAM, 0, gone)); must(socketpair(AF_UNIX, SOCK_STREAM, 0, reset)); must(socketpair(AF_UNIX, SOCK_STREAM, 0, between));
    int size = 30000, seconds = 7, on = 1;
    must(setsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, 4)); must(setsockopt(stream[1], SOL_SOCKET, SO_KEEPALIVE, &on, 4));
    struct timeval limit = { seconds, 250000 }, limit2;
    must(setsockopt(packet[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    struct linger linger = { 1, 3 }, linger2;
    must(setsockopt(packet[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    write(stream[0], "to one", 6); write(stream[1], "to zero", 7); write(stream[1], ", more", 6);
    write(packet[0], "first", 5); write(packet[0], "second", 6); send(packet[0], "", 0, 0); write(packet[0], "fourth", 6);
    write(datagram[1], "alpha", 5); write(datagram[1], "beta", 4);
    write(half[0], "last", 4); shutdown(half[0], SHUT_WR);
    write(gone[0], "bye", 3); close(gone[0]);
    write(reset[1], "unread", 6); close(reset[0]);
    dup1 = must(dup(stream[0]));
    write(between[0], "child", 5);
    int before, after; socklen_t n = 4;
    must(getsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &before, &n));
    pid_t me = getpid(), child = must(fork());
    if (!child) {
        close(between[0]);
        scenario_touch("child"); scenario_await("go");
        same(5, read(between[1], got, 100)); check(!memcmp(got, "child", 5));
        write(between[1], "parent", 6);
        closed(between[1]);
        scenario_leave(0);
    }
    close(between[1]);
    scenario_await("child");
    scenario_wait();
    int queues[] = { stream[0], packet[0], packet[1], datagram[0], datagram[1], half[0], half[1] };
    for (int i = 0; i < 7; i++) { n = 4; must(getsockopt(queues[i], SOL_SOCKET, SO_PEEK_OFF, &after, &n)); same(-1, after); }
    same(6, recv(stream[1], got, sizeof got, 0)); check(!memcmp(got, "to one", 6));
    same(13, recv(dup1, got, sizeof got, 0)); check(!memcmp(got, "to zero, more", 13));
    same(5, recv(packet[1], got, 100, 0)); check(!memcmp(got, "first", 5));
    same(6, recv(packet[1], got, 100, 0)); same(0, recv(packet[1], got, 100, 0)); same(6, recv(packet[1], got, 100, 0)); check(!memcmp(got, "fourth", 6));
    same(5, recv(datagram[0], got, 100, 0)); same(4, recv(datagram[0], got, 100, 0)); same(-1, recv(datagram[0], got, 100, 0)); same(EAGAIN, errno);
    same(4, recv(half[1], got, 100, 0)); closed(half[1]); write(half[1], "x", 1); same(1, recv(half[0], got, 10, 0));
    same(3, recv(gone[1], got, 100, 0)); closed(gone[1]);
    signal(SIGPIPE, SIG_IGN);
    same(-1, recv(reset[1], got, 10, 0)); same(ECONNRESET, errno); closed(reset[1]); same(-1, write(reset[1], "x", 1)); same(EPIPE, errno);
    must(getsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &after, &n)); same(before, after);
    must(getsockopt(stream[1], SOL_SOCKET, SO_KEEPALIVE, &after, &n)); same(1, after);
    n = sizeof limit2; must(getsockopt(packet[0], SOL_SOCKET, SO_RCVTIMEO, &limit2, &n)); same(seconds, limit2.tv_sec); check(limit2.tv_usec >= 240000 && limit2.tv_usec <= 260000);
    n = sizeof linger2; must(getsockopt(packet[1], SOL_SOCKET, SO_LINGER, &linger2, &n)); same(1, linger2.l_onoff); same(3, linger2.l_linger);
    struct ucred c; n = sizeof c; must(getsockopt(stream[1], SOL_SOCKET, SO_PEERCRED, &c, &n)); same(me, c.pid); same(getuid(), c.uid); same(getgid(), c.gid);
    same(FD_CLOEXEC, fcntl(stream[0], F_GETFD)); same(0, fcntl(dup1, F_GETFD)); check(fcntl(datagram[0], F_GETFL) & O_NONBLOCK); check(!(fcntl(stream[0], F_GETFL) & O_NONBLOCK));
    same(6, read(between[0], got, 100)); close(between[0]);
    scenario_child(child, 0);
    return scenario_end();
}

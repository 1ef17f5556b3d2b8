// Connections between processes of the tree keep both names, what is in flight in both directions, half-closed ends and options.
#include "inet.h"
enum { UNREAD = 40000 };
static char block[UNREAD], got[UNREAD];
static void expect(int fd, uint64_t seed) {
    memset(got, 0, sizeof got);
    same(UNREAD, inet_read(fd, got, UNREAD));
    same(-1, scenario_compare(got, UNREAD, seed));
}
static void put(int fd, uint64_t seed) { scenario_fill(block, UNREAD, seed); same(UNREAD, must(write(fd, block, UNREAD))); }
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int listener = inet_listener(9), c[4], s[4];
    for (int i = 0; i < 4; i++) { c[i] = inet_connected(listener); s[i] = must(accept(listener, NULL, NULL)); }
    inet_name names[8];
    for (int i = 0; i < 4; i++) { names[i] = inet_local(c[i]); names[4 + i] = inet_peer(c[i]); }
    put(c[0], 1); put(s[0], 2);
    put(c[1], 3); must(shutdown(c[1], SHUT_WR));
    put(s[2], 4); must(shutdown(s[2], SHUT_WR));
    inet_set(c[3], IPPROTO_TCP, TCP_NODELAY, 1);
    inet_set(s[3], SOL_SOCKET, SO_KEEPALIVE, 1);
    inet_set(s[3], IPPROTO_TCP, TCP_KEEPIDLE, 77);
    inet_set(s[3], IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
    inet_set(s[3], IPPROTO_IP, IP_TOS, 0x10);
    must(setsockopt(s[3], IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    inet_set(c[3], SOL_SOCKET, SO_RCVBUF, 30000);
    int buffer = inet_option(c[3], SOL_SOCKET, SO_RCVBUF);
    fcntl(c[3], F_SETFL, O_NONBLOCK);
    pid_t child = must(fork());
    if (!child) {
        for (int i = 0; i < 4; i++) close(c[i]);
        scenario_touch("child");
        scenario_await("go");
        for (int i = 0; i < 4; i++) check(inet_equal(inet_peer(s[i]), names[i]) && inet_equal(inet_local(s[i]), names[4 + i]));
        expect(s[0], 1);
        expect(s[1], 3);
        same(0, read(s[1], got, 1));
        put(s[1], 5);
        same(-1, send(s[2], "x", 1, MSG_NOSIGNAL));
        same(EPIPE, errno);
        expect(s[2], 6);
        same(77, inet_option(s[3], IPPROTO_TCP, TCP_KEEPIDLE));
        same(1, inet_option(s[3], SOL_SOCKET, SO_KEEPALIVE));
        same(12345, inet_option(s[3], IPPROTO_TCP, TCP_USER_TIMEOUT));
        same(0x10, inet_option(s[3], IPPROTO_IP, IP_TOS));
        char name[16] = "";
        socklen_t n = sizeof name;
        must(getsockopt(s[3], IPPROTO_TCP, TCP_CONGESTION, name, &n));
        check(!strcmp(name, "reno"));
        scenario_leave(0);
    }
    for (int i = 0; i < 4; i++) close(s[i]);
    scenario_await("child");
    scenario_wait();
    for (int i = 0; i < 4; i++) check(inet_equal(names[i], inet_local(c[i])) && inet_equal(names[4 + i], inet_peer(c[i])));
    expect(c[0], 2);
    same(-1, recv(c[0], got, 1, MSG_DONTWAIT));
    same(EAGAIN, errno);
    expect(c[1], 5);
    expect(c[2], 4);
    same(0, read(c[2], got, 1));
    put(c[2], 6);
    same(1, inet_option(c[3], IPPROTO_TCP, TCP_NODELAY));
    same(buffer, inet_option(c[3], SOL_SOCKET, SO_RCVBUF));
    same(O_RDWR | O_NONBLOCK, fcntl(c[3], F_GETFL) & (O_ACCMODE | O_NONBLOCK));
    same(0, inet_option(c[0], SOL_SOCKET, SO_REUSEADDR));
    same(0, inet_option(c[0], IPPROTO_TCP, TCP_NODELAY));
    scenario_child(child, 0);
    int again = inet_connected(listener), accepted = must(accept(listener, NULL, NULL));
    must(write(again, "more", 4));
    same(4, inet_read(accepted, got, 4));
    return scenario_end();
}

// Connections whose ends are sockets of two families: an IPv4 client of a server that listens for both, and an IPv6 client of an IPv4 server.
#include "inet.h"
static int bound(int family) {
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = must(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (family == AF_INET6) { inet_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); must(bind(fd, (void *)&six, sizeof six)); } else must(bind(fd, (void *)&four, sizeof four));
    must(listen(fd, 5));
    return fd;
}
static int connected(int family, int listener) {
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(inet_port(listener)) };
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = six.sin6_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &six.sin6_addr);
    int fd = must(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    must(family == AF_INET6 ? connect(fd, (void *)&six, sizeof six) : connect(fd, (void *)&four, sizeof four));
    return fd;
}
static void expect(int fd, const char *text) { char got[16] = ""; same(strlen(text), inet_read(fd, got, strlen(text))); check(!strcmp(got, text)); }
int main(void) {
    int families[2][2] = { { AF_INET, AF_INET6 }, { AF_INET6, AF_INET } }, c[2][3], s[2][3];
    inet_name names[2][3][4];
    for (int k = 0; k < 2; k++) {
        int listener = bound(families[k][1]), other = bound(families[k][1]);
        // As they are, half-closed, and one whose listener has gone.
        for (int i = 0; i < 3; i++) { int l = i == 2 ? other : listener; c[k][i] = connected(families[k][0], l); s[k][i] = must(accept(l, NULL, NULL)); }
        close(other);
        for (int i = 0; i < 3; i++) {
            must(write(c[k][i], "to server", 9)); must(write(s[k][i], "to client", 9));
            inet_name now[4] = { inet_local(c[k][i]), inet_peer(c[k][i]), inet_local(s[k][i]), inet_peer(s[k][i]) };
            memcpy(names[k][i], now, sizeof now);
        }
        must(shutdown(c[k][1], SHUT_WR));
    }
    scenario_wait();
    for (int k = 0; k < 2; k++) for (int i = 0; i < 3; i++) {
        inet_name now[4] = { inet_local(c[k][i]), inet_peer(c[k][i]), inet_local(s[k][i]), inet_peer(s[k][i]) };
        for (int n = 0; n < 4; n++) check(inet_equal(names[k][i][n], now[n]));
        expect(s[k][i], "to server"); expect(c[k][i], "to client");
        must(write(s[k][i], "again", 5)); expect(c[k][i], "again");
        char end;
        if (i == 1) same(0, read(s[k][i], &end, 1)); else { must(write(c[k][i], "back", 4)); expect(s[k][i], "back"); }
    }
    return scenario_end();
}

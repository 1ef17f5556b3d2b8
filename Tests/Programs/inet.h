// What the programs about Internet sockets share: addresses of loopback, and what the kernel tells of a connection.
#ifndef INET_H
#define INET_H
#include "scenario.h"
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

// argv[1] "6": IPv6.
static int inet_six;
static void inet_arguments(int argc, char **argv) { inet_six = argc > 1 && !strcmp(argv[1], "6"); }
typedef struct { struct sockaddr_storage at; socklen_t size; } inet_name;
static inet_name inet_loopback(int port) {
    inet_name n = { .size = inet_six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in) };
    if (inet_six) *(struct sockaddr_in6 *)&n.at = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    else *(struct sockaddr_in *)&n.at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    return n;
}
static inet_name inet_local(int fd) { inet_name n = { .size = sizeof n.at }; must(getsockname(fd, (void *)&n.at, &n.size)); return n; }
static inet_name inet_peer(int fd) { inet_name n = { .size = sizeof n.at }; if (getpeername(fd, (void *)&n.at, &n.size)) n.size = 0; return n; }
static int inet_equal(inet_name a, inet_name b) { return a.size == b.size && !memcmp(&a.at, &b.at, a.size); }
static int inet_port(int fd) { inet_name n = inet_local(fd); return ntohs(((struct sockaddr_in *)&n.at)->sin_port); }
static int inet_socket(int type) { return must(socket(inet_six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0)); }
static int inet_bound(int type, int port) { int fd = inet_socket(type); inet_name n = inet_loopback(port); must(bind(fd, (void *)&n.at, n.size)); return fd; }
static int inet_listener(int backlog) { int fd = inet_bound(SOCK_STREAM, 0); must(listen(fd, backlog)); return fd; }
static int inet_connected(int listener) { int fd = inet_socket(SOCK_STREAM); inet_name n = inet_local(listener); must(connect(fd, (void *)&n.at, n.size)); return fd; }
static int inet_option(int fd, int level, int name) { int v = -1; socklen_t n = sizeof v; getsockopt(fd, level, name, &v, &n); return v; }
static void inet_set(int fd, int level, int name, int v) { must(setsockopt(fd, level, name, &v, sizeof v)); }
static int inet_state(int fd) { struct tcp_info i = { 0 }; socklen_t n = sizeof i; getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n); return i.tcpi_state; }
static int inet_ready(int fd) { struct pollfd p = { fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0 }; poll(&p, 1, 0); return p.revents; }
static void inet_pair(int *a, int *b) { int l = inet_listener(5); *a = inet_connected(l); *b = must(accept(l, NULL, NULL)); close(l); }
// Reads exactly `n` bytes, within ten seconds.
static long inet_read(int fd, void *p, long n) {
    long done = 0;
    while (done < n) {
        struct pollfd q = { fd, POLLIN, 0 };
        if (poll(&q, 1, 10000) <= 0) break;
        long r = recv(fd, (char *)p + done, n - done, MSG_DONTWAIT);
        if (r <= 0) break;
        done += r;
    }
    return done;
}
#endif

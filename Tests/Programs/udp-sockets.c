// UDP sockets keep names, peers, options, groups and unread datagrams with their senders, the empty ones too.
#include "inet.h"
static void send_to(int from, int to, const char *text) { inet_name n = inet_local(to); same((long)strlen(text), sendto(from, text, strlen(text), 0, (void *)&n.at, n.size)); }
static void expect(int fd, const char *text, inet_name source) {
    char got[100] = "";
    inet_name n = { .size = sizeof n.at };
    struct pollfd p = { fd, POLLIN, 0 };
    check(poll(&p, 1, 5000) == 1);
    long r = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (void *)&n.at, &n.size);
    if (r != (long)strlen(text) || strcmp(got, text)) scenario_differs("got %ld \"%s\", not \"%s\"", r, got, text);
    check(inet_equal(source, n));
}
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int a = inet_bound(SOCK_DGRAM, 0), b = inet_bound(SOCK_DGRAM, 0), fresh = inet_socket(SOCK_DGRAM), c = inet_socket(SOCK_DGRAM), gone = inet_bound(SOCK_DGRAM, 0);
    inet_name names[] = { inet_local(a), inet_local(b), inet_local(gone) };
    must(connect(c, (void *)&names[1].at, names[1].size));
    inet_name connected = inet_local(c);
    send_to(a, b, "first"); send_to(gone, b, "second"); must(send(c, "", 0, 0)); must(send(c, "fourth", 6, 0)); send_to(b, a, "back"); send_to(a, a, "own");
    close(gone);
    inet_set(fresh, SOL_SOCKET, SO_BROADCAST, 1);
    inet_set(a, SOL_SOCKET, SO_RCVBUF, 50000);
    int buffer = inet_option(a, SOL_SOCKET, SO_RCVBUF), member = inet_socket(SOCK_DGRAM);
    struct ip_mreqn group = { .imr_multiaddr.s_addr = htonl(0xe0010203), .imr_address.s_addr = htonl(INADDR_LOOPBACK) };
    struct ipv6_mreq group6 = { .ipv6mr_interface = 1 };
    inet_pton(AF_INET6, "ff01::123", &group6.ipv6mr_multiaddr);
    if (inet_six) must(setsockopt(member, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group6, sizeof group6));
    else must(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    scenario_wait();
    check(inet_equal(names[0], inet_local(a)) && inet_equal(names[1], inet_local(b)) && inet_equal(connected, inet_local(c)) && inet_equal(names[1], inet_peer(c)));
    expect(b, "first", names[0]); expect(b, "second", names[2]); expect(b, "", connected); expect(b, "fourth", connected); expect(a, "back", names[1]); expect(a, "own", names[0]);
    char x;
    same(-1, recv(b, &x, 1, MSG_DONTWAIT)); same(EAGAIN, errno);
    same(1, inet_option(fresh, SOL_SOCKET, SO_BROADCAST));
    same(buffer, inet_option(a, SOL_SOCKET, SO_RCVBUF));
    if (inet_six) { same(-1, setsockopt(member, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group6, sizeof group6)); same(EADDRINUSE, errno); }
    else { same(-1, setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group)); same(EADDRINUSE, errno); }
    same(-1, inet_option(b, SOL_SOCKET, SO_PEEK_OFF));
    must(send(c, "again", 5, 0)); expect(b, "again", connected);
    return scenario_end();
}

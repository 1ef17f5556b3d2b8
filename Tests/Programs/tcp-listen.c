// Listening sockets keep address, port, backlog and options; new clients are served, also where two listeners share a port.
#include "inet.h"
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int plain = inet_listener(7), shared[2], bound = inet_bound(SOCK_STREAM, 0), fresh = inet_socket(SOCK_STREAM);
    for (int i = 0; i < 2; i++) {
        shared[i] = inet_socket(SOCK_STREAM);
        inet_set(shared[i], SOL_SOCKET, SO_REUSEPORT, 1);
        inet_name n = inet_loopback(i ? inet_port(shared[0]) : 0);
        must(bind(shared[i], (void *)&n.at, n.size));
        must(listen(shared[i], 3));
    }
    inet_set(plain, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
    int deferred = inet_option(plain, IPPROTO_TCP, TCP_DEFER_ACCEPT);
    inet_set(fresh, IPPROTO_TCP, TCP_NODELAY, 1);
    int six = inet_six ? inet_option(plain, IPPROTO_IPV6, IPV6_V6ONLY) : 0;
    fcntl(plain, F_SETFL, O_NONBLOCK);
    inet_name names[] = { inet_local(plain), inet_local(shared[0]), inet_local(bound) };
    scenario_wait();
    check(inet_equal(names[0], inet_local(plain)));
    check(inet_equal(names[1], inet_local(shared[0])) && inet_equal(names[1], inet_local(shared[1])));
    check(inet_equal(names[2], inet_local(bound)));
    struct tcp_info i = { 0 };
    socklen_t n = sizeof i;
    must(getsockopt(plain, IPPROTO_TCP, TCP_INFO, &i, &n));
    same(TCP_LISTEN, i.tcpi_state);
    same(7, i.tcpi_sacked);
    same(deferred, inet_option(plain, IPPROTO_TCP, TCP_DEFER_ACCEPT));
    same(0, inet_option(plain, SOL_SOCKET, SO_REUSEADDR));
    same(0, inet_option(plain, SOL_SOCKET, SO_REUSEPORT));
    same(1, inet_option(shared[1], SOL_SOCKET, SO_REUSEPORT));
    same(1, inet_option(fresh, IPPROTO_TCP, TCP_NODELAY));
    same(0, inet_option(bound, IPPROTO_TCP, TCP_NODELAY));
    if (inet_six) same(six, inet_option(plain, IPPROTO_IPV6, IPV6_V6ONLY));
    same(-1, accept(plain, NULL, NULL));
    same(EAGAIN, errno);
    inet_set(plain, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
    fcntl(plain, F_SETFL, 0);
    int client = inet_connected(plain), server = must(accept(plain, NULL, NULL));
    must(write(client, "hello", 5));
    char got[8] = "";
    same(5, inet_read(server, got, 5));
    check(!strcmp(got, "hello"));
    for (int k = 0; k < 3; k++) close(inet_connected(shared[0]));
    must(listen(bound, 1));
    close(inet_connected(bound));
    return scenario_end();
}

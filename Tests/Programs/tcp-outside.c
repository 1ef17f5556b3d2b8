// A client of a server outside of the tree.  argv: port, "reset" or "repair": what the connection is like afterwards.
// It has 12 unread bytes from the server ("hello client"); repaired it echoes further.
#include "inet.h"
int main(int argc, char **argv) {
    (void)argc;
    int fd = inet_socket(SOCK_STREAM);
    inet_name n = inet_loopback(atoi(argv[1]));
    if (argc > 3) inet_pton(AF_INET, argv[3], &((struct sockaddr_in *)&n.at)->sin_addr);
    must(connect(fd, (void *)&n.at, n.size));
    inet_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    must(write(fd, "1", 1));
    char got[32] = "";
    for (int i = 0, queued = 0; i < 500 && queued < 12; i++, usleep(10000)) ioctl(fd, SIOCINQ, &queued);
    inet_name local = inet_local(fd), peer = inet_peer(fd);
    scenario_wait();
    same(1, inet_option(fd, IPPROTO_TCP, TCP_NODELAY));
    if (!strcmp(argv[2], "repair")) {
        check(inet_equal(local, inet_local(fd)) && inet_equal(peer, inet_peer(fd)));
        same(12, inet_read(fd, got, 12)); check(!memcmp(got, "hello client", 12));
        must(write(fd, "2", 1));
        same(12, inet_read(fd, got, 12)); check(!memcmp(got, "hello client", 12));
        return scenario_end();
    }
    same(POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP, inet_ready(fd));
    same(0, inet_peer(fd).size);
    same(12, read(fd, got, 32)); check(!memcmp(got, "hello client", 12));
    same(-1, read(fd, got, 1)); same(ECONNRESET, errno);
    same(0, read(fd, got, 1));
    same(-1, send(fd, "x", 1, MSG_NOSIGNAL)); same(EPIPE, errno);
    return scenario_end();
}

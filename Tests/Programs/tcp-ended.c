// Connections whose other end is closed, those that were reset or refused, and those that are over: what is unread, errors and end of file come once.
#include "inet.h"
static char got[64];
static int error(int fd) { return inet_option(fd, SOL_SOCKET, SO_ERROR); }
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int gone, reset, told, over, served, refused, read_off, peer, b[6], l = inet_listener(8);
    inet_pair(&gone, &b[0]); must(write(b[0], "last words", 10)); close(b[0]);
    inet_pair(&reset, &b[1]); must(write(reset, "unread", 6)); must(write(b[1], "before", 6)); usleep(50000); close(b[1]);
    inet_pair(&told, &b[2]); must(write(told, "unread", 6)); usleep(50000); close(b[2]); usleep(50000); same(ECONNRESET, error(told));
    inet_pair(&over, &b[3]); must(write(b[3], "the end", 7)); must(shutdown(b[3], SHUT_WR)); must(shutdown(over, SHUT_WR)); close(b[3]);
    peer = inet_connected(l); served = must(accept(l, NULL, NULL)); must(write(peer, "bye", 3)); close(peer);
    inet_pair(&read_off, &b[4]); must(shutdown(read_off, SHUT_RD));
    int bound = inet_bound(SOCK_STREAM, 0);
    refused = inet_socket(SOCK_STREAM); fcntl(refused, F_SETFL, O_NONBLOCK);
    inet_name n = inet_local(bound);
    same(-1, connect(refused, (void *)&n.at, n.size)); same(EINPROGRESS, errno);
    usleep(100000);
    int ready[] = { inet_ready(gone), inet_ready(reset), inet_ready(told), inet_ready(over), inet_ready(served), inet_ready(refused), inet_ready(read_off) };
    int state[] = { inet_state(gone), inet_state(reset), inet_state(told), inet_state(over), inet_state(served), inet_state(refused), inet_state(read_off) };
    inet_name names[] = { inet_local(gone), inet_peer(gone), inet_local(served), inet_peer(served) };
    scenario_wait();
    int now[] = { inet_ready(gone), inet_ready(reset), inet_ready(told), inet_ready(over), inet_ready(served), inet_ready(refused), inet_ready(read_off) };
    int then[] = { inet_state(gone), inet_state(reset), inet_state(told), inet_state(over), inet_state(served), inet_state(refused), inet_state(read_off) };
    for (int i = 0; i < 7; i++) { if (ready[i] != now[i] || state[i] != then[i]) scenario_differs("socket %d: ready 0x%x state %d, was 0x%x %d", i, now[i], then[i], ready[i], state[i]); }
    check(inet_equal(names[0], inet_local(gone)) && inet_equal(names[1], inet_peer(gone)) && inet_equal(names[2], inet_local(served)) && inet_equal(names[3], inet_peer(served)));
    same(10, inet_read(gone, got, 10)); check(!memcmp(got, "last words", 10)); same(0, read(gone, got, 1));
    same(6, read(reset, got, 60)); check(!memcmp(got, "before", 6));
    same(-1, read(reset, got, 1)); same(ECONNRESET, errno); same(0, read(reset, got, 1));
    same(0, error(told)); same(0, read(told, got, 1));
    same(7, read(over, got, 60)); check(!memcmp(got, "the end", 7)); same(0, read(over, got, 1)); same(0, error(over));
    same(3, inet_read(served, got, 3)); check(!memcmp(got, "bye", 3)); same(0, read(served, got, 1));
    same(ECONNREFUSED, error(refused)); same(0, error(refused));
    same(0, recv(read_off, got, 1, MSG_DONTWAIT));
    must(write(read_off, "still", 5)); same(5, inet_read(b[4], got, 5));
    // A closed peer answers with a reset.
    must(send(gone, "x", 1, MSG_NOSIGNAL)); usleep(50000);
    same(-1, send(gone, "x", 1, MSG_NOSIGNAL)); same(EPIPE, errno);
    return scenario_end();
}

// Connections that wait to be accepted come in their order; a client that is connecting goes on; a socket connected to itself is.
#include "inet.h"
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int l = inet_listener(8), c[4], self = inet_bound(SOCK_STREAM, 0), narrow = inet_listener(0), extra[2], waiting;
    for (int i = 0; i < 4; i++) { c[i] = inet_connected(l); usleep(20000); }
    shutdown(c[3], SHUT_WR);
    inet_name own = inet_local(self), there = inet_local(narrow), names[4];
    must(connect(self, (void *)&own.at, own.size));
    must(write(self, "to myself", 9));
    extra[0] = inet_connected(narrow);
    waiting = inet_socket(SOCK_STREAM); fcntl(waiting, F_SETFL, O_NONBLOCK);
    same(-1, connect(waiting, (void *)&there.at, there.size)); same(EINPROGRESS, errno);
    int state = inet_state(waiting);
    for (int i = 0; i < 4; i++) names[i] = inet_local(c[i]);
    scenario_wait();
    char got[16] = "";
    for (int i = 0; i < 4; i++) {
        check(inet_equal(names[i], inet_local(c[i])));
        int s = must(accept(l, NULL, NULL));
        check(inet_equal(names[i], inet_peer(s)));
        if (i == 3) { same(0, inet_read(s, got, 1)); continue; }
        must(write(c[i], "hi", 2));
        same(2, inet_read(s, got, 2));
        must(write(s, "yo", 2));
        same(2, inet_read(c[i], got, 2));
    }
    same(9, inet_read(self, got, 9));
    check(!memcmp(got, "to myself", 9));
    must(write(self, "once more", 9));
    same(9, inet_read(self, got, 9));
    extra[1] = must(accept(narrow, NULL, NULL));
    if (state == TCP_SYN_SENT) {
        struct pollfd p = { waiting, POLLOUT, 0 };
        check(poll(&p, 1, 20000) == 1);
        same(0, inet_option(waiting, SOL_SOCKET, SO_ERROR));
        check(inet_equal(there, inet_peer(waiting)));
    }
    return scenario_end();
}

// A connection whose server's port is held by one that has ended (TIME_WAIT): it comes back at once, by its other end.
#include "inet.h"
static char got[8];
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int l = inet_listener(5), ended[2], client = inet_connected(l), server = must(accept(l, NULL, NULL));
    ended[0] = inet_connected(l); ended[1] = must(accept(l, NULL, NULL));
    close(l);
    close(ended[1]); usleep(20000); close(ended[0]);
    must(write(client, "to the ", 7)); must(write(server, "client", 6));
    inet_name names[] = { inet_local(client), inet_local(server) };
    scenario_wait();
    check(inet_equal(names[0], inet_local(client)) && inet_equal(names[1], inet_peer(client)));
    check(inet_equal(names[1], inet_local(server)) && inet_equal(names[0], inet_peer(server)));
    must(write(client, "x", 1));
    same(8, inet_read(server, got, 8)); check(!memcmp(got, "to the x", 8));
    same(6, inet_read(client, got, 6)); check(!memcmp(got, "client", 6));
    return scenario_end();
}

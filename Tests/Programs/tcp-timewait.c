// A server whose port is also that of a connection which it has closed first (TIME_WAIT), and of one that is alive.  "reuse": with SO_REUSEADDR.
#include "inet.h"
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    char text[8] = "";
    int listener = inet_socket(SOCK_STREAM), port;
    inet_name at = inet_loopback(0);
    if (argc > 2) inet_set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
    must(bind(listener, (void *)&at.at, at.size)); must(listen(listener, 5));
    port = inet_port(listener);
    int over = inet_connected(listener), served = must(accept(listener, NULL, NULL));
    close(served); close(over);
    int client = inet_connected(listener), server = must(accept(listener, NULL, NULL));
    must(write(client, "query", 5)); must(write(server, "answer", 6));
    inet_name name = inet_local(client);
    scenario_wait();
    same(port, inet_port(listener)); same(port, inet_port(server));
    check(inet_equal(name, inet_peer(server)));
    same(5, inet_read(server, text, 5)); check(!memcmp(text, "query", 5));
    same(6, inet_read(client, text, 6)); check(!memcmp(text, "answer", 6));
    int next = inet_connected(listener), accepted = must(accept(listener, NULL, NULL));
    must(write(next, "more", 4)); same(4, inet_read(accepted, text, 4)); check(!memcmp(text, "more", 4));
    return scenario_end();
}

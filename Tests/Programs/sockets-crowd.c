// Connections within the tree, to a name that others outside use at all times: "stream", "seqpacket" (a path), "abstract" or "tcp".  "crowd" KIND NAME: these others.
#include "scenario.h"
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
enum { PAIRS = 6 };
static union { struct sockaddr any; struct sockaddr_un unix_; struct sockaddr_in in; } address;
static socklen_t size;
static int type = SOCK_STREAM;
static void name_is(const char *kind, const char *name) {
    if (!strcmp(kind, "tcp")) { address.in = (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = htons(atoi(name)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }; size = sizeof address.in; return; }
    int skip = !strcmp(kind, "abstract");
    if (!strcmp(kind, "seqpacket")) type = SOCK_SEQPACKET;
    address.unix_.sun_family = AF_UNIX;
    snprintf(address.unix_.sun_path + skip, sizeof address.unix_.sun_path - skip, "%s", name);
    size = offsetof(struct sockaddr_un, sun_path) + skip + strlen(name) + !skip;
}
static int new_socket(int flags) { return must(socket(address.any.sa_family, type | flags, 0)); }
static void crowd(void) {
    int held[16], n = 0;
    while (!scenario_exists("stop")) {
        int s = new_socket(SOCK_NONBLOCK);
        if (connect(s, &address.any, size) == 0 || errno == EINPROGRESS) send(s, "from outside", 12, MSG_NOSIGNAL);
        if (n == 16) { close(held[0]); memmove(held, held + 1, 15 * sizeof held[0]); n--; }
        held[n++] = s;
        usleep(200);
    }
}
int main(int argc, char **argv) {
    const char *kind = argv[1];
    if (!strcmp(kind, "crowd")) { name_is(argv[2], argv[3]); crowd(); return 0; }
    name_is(kind, argv[2]);
    int listener = new_socket(0), yes = 1, client[PAIRS], server[PAIRS];
    if (address.any.sa_family == AF_INET) must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
    must(bind(listener, &address.any, size)); must(listen(listener, 32));
    for (int i = 0; i < PAIRS; i++) { client[i] = new_socket(0); must(connect(client[i], &address.any, size)); server[i] = must(accept(listener, NULL, NULL)); }
    scenario_wait();
    for (int i = 0; i < PAIRS; i++) {
        char text[32] = "", wanted[32]; snprintf(wanted, sizeof wanted, "number %d", i);
        must(send(client[i], wanted, strlen(wanted), 0));
        struct pollfd p = { .fd = server[i], .events = POLLIN };
        if (poll(&p, 1, 3000) != 1) { scenario_differs("connection %d brings nothing", i); continue; }
        must(recv(server[i], text, 31, 0));
        if (strcmp(text, wanted)) scenario_differs("connection %d brings '%s'", i, text);
        must(send(server[i], "back", 4, 0));
        p.fd = client[i];
        if (poll(&p, 1, 3000) != 1 || recv(client[i], text, 31, 0) != 4) scenario_differs("connection %d brings nothing back", i);
    }
    return scenario_end();
}

// Two children in networks of their own, which a pair of devices joins: sockets of every kind in each, and connections between the two, with what is under way.
#include "namespaces-links.h"
#include <sys/ioctl.h>
#include <sys/un.h>
static int named(int type, const char *address, int port) {
    struct sockaddr_in a = place(address, port);
    int s = must(socket(AF_INET, type, 0)), on = 1;
    must(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    must(bind(s, (void *)&a, sizeof a));
    return s;
}
static int reach(int s, const char *address, int port) {
    struct sockaddr_in a = place(address, port);
    must(connect(s, (void *)&a, sizeof a));
    return s;
}
static void expect(int s, const char *text) {
    char b[32] = "";
    same(strlen(text), recv(s, b, strlen(text), 0));
    if (strcmp(b, text)) scenario_differs("'%s', was '%s'", b, text);
}
static int abstract(int server) {
    struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "\0both" };
    int s = must(socket(AF_UNIX, SOCK_STREAM, 0));
    if (server) { must(bind(s, (void *)&a, 8)); must(listen(s, 3)); } else must(connect(s, (void *)&a, 8));
    return s;
}
/// Is that a socket of this process's network?  (SIOCGSKNS)
static void here(int s) {
    struct stat a, b;
    int n = must(ioctl(s, 0x894c));
    must(fstat(n, &a)); must(stat("/proc/self/ns/net", &b));
    close(n);
    if (a.st_ino != b.st_ino) scenario_differs("descriptor %d is in another network", s);
}
static int users;
static void child(int k) {
    char rest[16];
    const char *own = k ? "10.7.0.2" : "10.7.0.1", *other = k ? "10.7.0.1" : "10.7.0.2";
    must(unshare(CLONE_NEWNET | (users ? CLONE_NEWUSER : 0)));
    if (users) { FILE *f = fopen("/proc/self/uid_map", "w"); check(f && fprintf(f, "0 0 1\n") > 0 && fclose(f) == 0); }
    shell("ip link set lo up");
    take_link(k, own);
    // The same names and ports in both networks.
    int listener = named(SOCK_STREAM, "0.0.0.0", 80), datagrams = named(SOCK_DGRAM, own, 81), names = abstract(1), unbound = must(socket(AF_INET, SOCK_STREAM, 0));
    must(listen(listener, 5));
    int local = reach(must(socket(AF_INET, SOCK_STREAM, 0)), "127.0.0.1", 80), localServer = must(accept(listener, NULL, NULL));
    int client = abstract(0), server = must(accept(names, NULL, NULL)), pair[2];
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    scenario_touch(k ? "up-1" : "up-0");
    scenario_await(k ? "up-0" : "up-1");
    int out = reach(must(socket(AF_INET, SOCK_STREAM, 0)), other, 80), in = must(accept(listener, NULL, NULL)), gone = -1;
    scenario_touch(k ? "joined-1" : "joined-0");
    scenario_await(k ? "joined-0" : "joined-1");
    if (k) {
        gone = reach(must(socket(AF_INET, SOCK_STREAM, 0)), other, 80);
        must(send(gone, "word", 4, 0));
        expect(gone, "last word");
    } else {
        int s = must(accept(listener, NULL, NULL));
        expect(s, "word");
        must(send(s, "last word, and more", 19, 0));
        close(s);
    }
    must(send(out, own, strlen(own), 0)); must(send(local, "within", 6, 0)); must(send(client, "abstract", 8, 0)); must(send(pair[0], "pair", 4, 0));
    struct sockaddr_in there = place(other, 81);
    must(sendto(datagrams, own, strlen(own), 0, (void *)&there, sizeof there));
    scenario_touch(k ? "seen-1" : "seen-0");
    scenario_await("go");
    for (int s = 3; s < 32; s++) { struct stat st; if (!fstat(s, &st) && S_ISSOCK(st.st_mode)) here(s); }
    expect(in, other); expect(localServer, "within"); expect(server, "abstract"); expect(pair[1], "pair"); expect(datagrams, other);
    if (k) { expect(gone, ", and more"); same(0, recv(gone, rest, 9, 0)); }
    reach(unbound, other, 80);
    must(send(in, "back", 4, 0));
    expect(out, "back");
    scenario_touch(k ? "done-1" : "done-0");
    scenario_await(k ? "done-0" : "done-1");
    scenario_leave(k);
}
int main(int argc, char **argv) {
    pid_t children[2];
    users = argc > 1;           // each in a user namespace of its own as well
    scenario_become_root(argv[1]);
    int outside = named(SOCK_STREAM, "127.0.0.1", 0), mine[2];
    must(listen(outside, 1));
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, mine));
    must(fcntl(outside, F_SETFD, FD_CLOEXEC));
    for (int k = 0; k < 2; k++) if (!(children[k] = must(fork()))) { close(outside); close(mine[0]); close(mine[1]); child(k); }
    link_children(children);
    int told = ioctl(outside, 0x894c);      // by root of the machine alone
    if (told >= 0) { close(told); here(outside); here(mine[0]); }
    return scenario_end();
}

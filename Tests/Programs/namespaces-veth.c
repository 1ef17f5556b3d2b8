// Pairs of virtual network devices: both ends in the network of the whole tree, or each in that of another child; addresses, routes, settings, sockets.
#include "namespaces-links.h"
static void look(char *text, size_t size) {
    for (int i = 0; i < 100; i++) {       // until nothing is under way any more
        FILE *f = popen("(ip -o link; ip -o addr; ip route show table all; ip -6 route show table all; grep . /proc/sys/net/ipv4/conf/ve*/rp_filter /proc/sys/net/ipv6/conf/ve*/addr_gen_mode)"
                        " | sed 's/ nodad//; s/link-netnsid [0-9]*//' | sort", "r");
        text[fread(text, 1, size - 1, f)] = 0;
        pclose(f);
        if (!strstr(text, "tentative") && !strstr(text, "linkdown") && !strstr(text, "NO-CARRIER") && !strstr(text, "LOWERLAYERDOWN")) return;
        usleep(50000);
    }
}
static void compare(const char *before, const char *who) {
    static char after[16384];
    for (int i = 0; i < 100; i++) {       // the kernel notices a little later that a link works
        look(after, sizeof after);
        if (!strcmp(before, after)) return;
        usleep(50000);
    }
    scenario_differs("%s: it is\n%.450s\nwas\n%.450s", who, after, before);
}
static void whole(void) {
    static char before[16384];
    must(unshare(CLONE_NEWNET));
    shell("ip link set lo up; ip link add ve0 address 02:00:00:00:00:17 mtu 1400 type veth peer name ve1 && ip addr add 10.7.0.1/24 dev ve0 && ip addr add 10.7.1.1/24 broadcast + dev ve1");
    shell("ip addr add fd07::1/64 dev ve0 nodad && ip link set ve0 up && ip link set ve1 up && ip route add 10.9.0.0/16 via 10.7.0.9 && ip -6 route add fd09::/64 via fd07::9; echo 2 >/proc/sys/net/ipv4/conf/ve0/rp_filter");
    struct sockaddr_in a = place("10.7.0.1", 80);
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(81) };
    inet_pton(AF_INET6, "fd07::1", &six.sin6_addr);
    int listener = must(socket(AF_INET, SOCK_STREAM, 0)), client = must(socket(AF_INET, SOCK_STREAM, 0)), bound = must(socket(AF_INET6, SOCK_DGRAM, 0));
    look(before, sizeof before);
    must(bind(listener, (void *)&a, sizeof a)); must(listen(listener, 5)); must(connect(client, (void *)&a, sizeof a)); must(bind(bound, (void *)&six, sizeof six));
    int server = must(accept(listener, NULL, NULL));
    must(send(client, "under way", 9, 0));
    scenario_wait();
    char b[16] = "";
    same(9, recv(server, b, 16, 0));
    check(!strcmp(b, "under way"));
    int again = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(again, (void *)&a, sizeof a));
    must(accept(listener, NULL, NULL));
    socklen_t size = sizeof six;
    must(getsockname(bound, (void *)&six, &size));
    same(81, ntohs(six.sin6_port));
    close(client); close(server); close(again); close(bound);
    compare(before, "main");
}
static void parts(void) {
    pid_t children[2];
    for (int k = 0; k < 2; k++) if (!(children[k] = must(fork()))) {
        static char before[16384];
        must(unshare(CLONE_NEWNET));
        take_link(k, k ? "10.7.0.2" : "10.7.0.1");
        scenario_touch(k ? "up-1" : "up-0");
        scenario_await(k ? "up-0" : "up-1");
        look(before, sizeof before);
        scenario_touch(k ? "seen-1" : "seen-0");
        scenario_await("go");
        compare(before, k ? "one" : "other");
        struct sockaddr_in there = place("10.7.0.2", 99);
        int s = must(socket(AF_INET, SOCK_DGRAM, 0));
        char b[8] = "";
        if (k) { must(bind(s, (void *)&there, sizeof there)); scenario_touch("bound"); same(4, recv(s, b, 8, 0)); check(!strcmp(b, "over")); }
        else { scenario_await("bound"); same(4, sendto(s, "over", 4, 0, (void *)&there, sizeof there)); }
        scenario_leave(k);
    }
    link_children(children);
}
int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "user")) {        // as root in a user namespace of its own
        char self[512];
        self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
        execlp("unshare", "unshare", "--user", "--map-root-user", self, NULL);
        return 9;
    }
    scenario_become_root(argv[1]);
    if (argc > 1) parts(); else whole();
    return scenario_end();
}

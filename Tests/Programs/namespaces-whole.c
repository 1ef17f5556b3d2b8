// A tree that has put itself into namespaces of its own: names of the host, System V IPC, and a network with only a loopback, in use.
#include "scenario.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
static void raise_loopback(void) {
    int s = must(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    must(ioctl(s, SIOCSIFFLAGS, &r));
    close(s);
}
static void names(const char *host, const char *domain) {
    char h[70], d[70];
    gethostname(h, 70); getdomainname(d, 70);
    if (strcmp(h, host) || strcmp(d, domain)) scenario_differs("names %s %s, were %s %s", h, d, host, domain);
}
int main(void) {
    scenario_become_root(NULL);
    must(unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET));
    must(sethostname("orchard", 7));
    must(setdomainname("in.the.tree", 11));
    raise_loopback();
    int listener = must(socket(AF_INET, SOCK_STREAM, 0)), client = must(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    must(bind(listener, (void *)&a, sizeof a));
    must(listen(listener, 5));
    must(connect(client, (void *)&a, sizeof a));
    int server = must(accept(listener, NULL, NULL));
    must(send(client, "under way", 9, 0));
    struct sockaddr_un u = { .sun_family = AF_UNIX, .sun_path = "\0ckpt-own-network" };
    int name = must(socket(AF_UNIX, SOCK_DGRAM, 0));
    must(bind(name, (void *)&u, sizeof(sa_family_t) + 17));
    int id = must(shmget(77, 4096, IPC_CREAT | IPC_EXCL | 0600));
    char *shared = shmat(id, NULL, 0);
    strcpy(shared, "in a segment");
    pid_t child = must(fork());
    if (!child) {
        scenario_touch("child");
        scenario_await("go");
        names("orchard", "in.the.tree");
        check(!strcmp(shared, "in a segment"));
        char b[16] = "";
        same(9, recv(server, b, 16, 0));
        check(!strcmp(b, "under way"));
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    names("orchard", "in.the.tree");
    same(id, shmget(77, 0, 0));
    scenario_child(child, 3);
    int again = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(again, (void *)&a, sizeof a));
    must(accept(listener, NULL, NULL));
    int taken = must(socket(AF_UNIX, SOCK_DGRAM, 0));
    check(bind(taken, (void *)&u, sizeof(sa_family_t) + 17) == -1 && errno == EADDRINUSE);
    struct if_nameindex *list = if_nameindex();
    check(list && list[0].if_index && !strcmp(list[0].if_name, "lo") && !list[1].if_index);
    return scenario_end();
}

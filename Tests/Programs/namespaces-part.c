// Processes of a tree that live in namespaces of their own, alone or together, while the others stay where the tree was started.
#include "scenario.h"
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
static const char *kinds[] = { "uts", "ipc", "net" };
static void numbers(const char *name, int write_them) {
    char path[64], link[64], all[256] = "", old[256] = "";
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[k]);
        link[readlink(path, link, 63)] = 0;
        strcat(strcat(all, link), " ");
    }
    FILE *f = fopen(scenario_path(name), write_them ? "w" : "r");
    if (write_them) fputs(all, f); else { fgets(old, 256, f); if (strcmp(old, all)) scenario_differs("%s has %s, not %s", name, all, old); }
    fclose(f);
}
static int loopback(void) {
    int s = must(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq r = { .ifr_name = "lo" };
    must(ioctl(s, SIOCGIFFLAGS, &r));
    close(s);
    return r.ifr_flags & IFF_UP;
}
static void host_is(const char *wanted) {
    char h[70];
    gethostname(h, 70);
    if (strcmp(h, wanted)) scenario_differs("host %s, not %s", h, wanted);
}
// `mate`: a child in the same namespaces, which then leaves the network's.
static pid_t part(const char *name, int flags, int up, int mate) {
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    must(unshare(flags));
    if (flags & CLONE_NEWUTS) must(sethostname(name, strlen(name)));
    if (up) {
        int s = must(socket(AF_INET, SOCK_DGRAM, 0));
        struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP };
        must(ioctl(s, SIOCSIFFLAGS, &r));
        close(s);
    }
    pid_t second = mate ? must(fork()) : 0;
    if (mate && !second) {
        scenario_touch("mate");
        scenario_await("told");
        numbers("numbers", 0);
        host_is(name);
        scenario_leave(8);
    }
    if (mate) scenario_await("mate");
    scenario_touch(name);
    scenario_await("go");
    if (flags & CLONE_NEWUTS) host_is(name);
    same(up, !!loopback());
    if (mate) { numbers("numbers", 1); scenario_touch("told"); scenario_child(second, 8); }
    scenario_leave(7);
}
int main(void) {
    char host[70];
    gethostname(host, 70);
    int up = loopback();
    pid_t a = part("alpha", CLONE_NEWUTS, !!up, 0), b = part("beta", CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET, 1, 1);
    pid_t c = part("gamma", CLONE_NEWNET, 0, 0), d = part("delta", CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS, !!up, 0);
    scenario_wait();
    host_is(host);
    same(up, loopback());
    scenario_child(a, 7); scenario_child(b, 7); scenario_child(c, 7); scenario_child(d, 7);
    return scenario_end();
}

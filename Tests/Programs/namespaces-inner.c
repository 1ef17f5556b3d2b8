// Children of a tree in user namespaces of their own, as `unshare --user --map-root-user` makes them: root there, and nobody outside.
// An argument tells what else is theirs: a network and a name, another user namespace within, threads.
#include "namespaces-users.h"
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
static char kind = 'u';
static void *thread(void *before) {
    pid_t tid = gettid();
    scenario_touch("thread");
    scenario_await("go");
    same(tid, gettid());
    same_identity("thread", before);
    must(sethostname("by-a-thread", 11));
    return NULL;
}
static int loopback(void) {
    struct ifreq r = { .ifr_name = "lo" };
    int s = must(socket(AF_INET, SOCK_DGRAM, 0));
    must(ioctl(s, SIOCGIFFLAGS, &r));
    close(s);
    return !!(r.ifr_flags & IFF_UP);
}
static pid_t part(const char *name, int depth) {
    pid_t child = must(fork()), inner = 0, own = 0;
    if (child) { scenario_await(name); return child; }
    char before[8192], host[70] = "";
    pthread_t t[2];
    enter_alone(CLONE_NEWUTS | (kind == 'n' ? CLONE_NEWNET : 0));
    must(sethostname(name, strlen(name)));
    if (depth > 1) inner = part("inner", depth - 1);
    if (!(own = must(fork()))) {           // inherits all, and gives its capabilities away
        must(prctl(PR_CAPBSET_DROP, 5)); must(prctl(PR_SET_SECUREBITS, 1)); must(setresuid(0, 0, 0));
        identity(before);
        scenario_touch("own"); scenario_await("go");
        same_identity("own", before);
        same(0, prctl(PR_CAPBSET_READ, 5)); same(1, prctl(PR_GET_SECUREBITS));
        scenario_leave(2);
    }
    scenario_await("own");
    identity(before);
    if (kind == 't') for (int i = 0; i < 2; i++) must0(pthread_create(&t[i], NULL, thread, before));
    if (kind == 't') scenario_await("thread");
    scenario_touch(name); scenario_await("go");
    same_identity(name, before);
    if (kind == 'n') same(0, loopback());
    if (kind == 't') for (int i = 0; i < 2; i++) must0(pthread_join(t[i], NULL));
    owned_here("uts");
    if (kind == 'n') owned_here("net");
    gethostname(host, 70);
    if (strcmp(host, kind == 't' ? "by-a-thread" : name)) scenario_differs("%s is called %s", name, host);
    if (inner) scenario_child(inner, 7);
    scenario_child(own, 2);
    must(sethostname("again", 5));
    scenario_leave(7);
    return 0;
}
int main(int argc, char **argv) {
    if (argc > 1) kind = argv[1][0];
    pid_t child = part("outer", kind == 'w' ? 2 : 1);
    scenario_wait();
    scenario_child(child, 7);
    return scenario_end();
}

// A program that unshare(1) started in a user namespace within another one, where nobody lives: a whole tree, or ("part") a child of one.
#include "namespaces-users.h"
int main(int argc, char **argv) {
    char self[512], before[8192], host[70];
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    if (argc < 3) {
        pid_t child = argc == 2 ? must(fork()) : 0;
        if (child) { scenario_child(child, 0); return scenario_bad; }
        execlp("unshare", "unshare", "--user", "--map-root-user", "--uts", "unshare", "--user", "--map-root-user", "--ipc", self, "inside", "both", NULL);
        return 9;
    }
    identity(before);
    gethostname(host, sizeof host);
    scenario_wait();
    same_identity("it", before);
    check(sethostname(host, strlen(host)) == -1 && errno == EPERM);         // that belongs to the outer one
    return scenario_end();
}

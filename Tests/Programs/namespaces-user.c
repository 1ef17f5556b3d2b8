// A whole tree in a user namespace of its own (as `unshare --user --map-root-user --uts` makes one): it is root there, and nobody outside.
#include "namespaces-users.h"
#include <sys/fsuid.h>
int main(int argc, char **argv) {
    if (argc == 1) {        // by exec, after which the process may be looked at again
        char self[512];
        self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
        execlp("unshare", "unshare", "--user", "--map-root-user", "--uts", self, "inside", NULL);
        return 9;
    }
    char before[8192], host[70];
    must(sethostname("nobody-outside", 14));
    identity(before);
    pid_t child = must(fork());
    if (!child) {
        scenario_touch("child");
        scenario_await("go");
        same_identity("child", before);
        scenario_leave(3);
    }
    scenario_await("child");
    int fd = must(open(scenario_path("mine"), O_RDWR | O_CREAT, 0600));
    scenario_wait();
    same_identity("main", before);
    gethostname(host, sizeof host);
    check(!strcmp(host, "nobody-outside"));
    must(sethostname("again", 5));
    struct stat s;
    must(fstat(fd, &s));
    same(0, s.st_uid);
    scenario_child(child, 3);
    return scenario_end();
}

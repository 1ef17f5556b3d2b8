// A whole tree in a user namespace of its own that shows several users and groups, whom its processes become.
#include "namespaces-users.h"
#include <grp.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    char before[8192];
    must(chmod(getenv("SCENARIO"), 0777));
    if (argc > 1) enter("0 0 1\n1 200000 10\n20 300000 1\n", "0 0 1\n7 200000 300\n");
    else enter("0 100000 65536\n", "0 100000 65536\n");
    must(setgid(0)); must(setuid(0));
    pid_t child = must(fork());
    if (!child) {
        gid_t list[] = { 9, 77 };
        must(setgroups(2, list)); must(setresgid(8, 9, 8)); must(setresuid(2, 5, 2));
        identity(before);
        scenario_touch("child");
        scenario_await("go");
        same_identity("child", before);
        scenario_leave(3);
    }
    scenario_await("child");
    int own = must(memfd_create("of user 3", 0)), pair[2];
    must(fchown(own, 3, 10));
    int gone = must(open(scenario_path("gone"), O_RDWR | O_CREAT, 0640));
    must(fchown(gone, 3, 10)); must(unlink(scenario_path("gone")));
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    identity(before);
    scenario_wait();
    same_identity("main", before);
    struct stat s;
    struct ucred who;
    socklen_t size = sizeof who;
    must(fstat(own, &s));
    same(3, s.st_uid); same(10, s.st_gid);
    must(fstat(gone, &s));
    same(3, s.st_uid); same(10, s.st_gid);
    must(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &who, &size));
    same(0, who.uid); same(0, who.gid);
    scenario_child(child, 3);
    return scenario_end();
}

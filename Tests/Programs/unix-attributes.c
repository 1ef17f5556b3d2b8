// Sockets' files whose mode and group are others than their folder gives to what is made in it: by an ACL, and as root by the setgid bit.
#include "scenario.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>
enum { SOCKETS = 4 };
static struct { const char *bound, *file; int mode, own; struct stat before; } all[SOCKETS] = {
    { "g/plain", "g/plain", 0666, 1 }, { "g/temporary", "g/moved", 0777, 1 }, { "g/bit", "g/bit", 02770, 1 }, { "g/given", "g/given", 0600, 0 },
};
int main(void) {
    must(mkdir(scenario_path("g"), 0777));
    if (!geteuid()) { must(chown(scenario_path("g"), -1, 60)); must(chmod(scenario_path("g"), 02775)); }
    struct { uint32_t version; struct { uint16_t tag, rights; uint32_t id; } entry[3]; } acl = { 2, { { 1, 7, -1 }, { 4, 5, -1 }, { 0x20, 0, -1 } } };
    must(setxattr(scenario_path("g"), "system.posix_acl_default", &acl, sizeof acl, 0));
    for (int i = 0; i < SOCKETS; i++) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
        strcpy(a.sun_path, scenario_path(all[i].bound));
        must(bind(fd, (void *)&a, sizeof a)); must(listen(fd, 1));
        if (all[i].own) must(chown(a.sun_path, -1, getegid()));
        must(chmod(a.sun_path, all[i].mode));
        if (all[i].file != all[i].bound) must(rename(a.sun_path, scenario_path(all[i].file)));
        must(stat(scenario_path(all[i].file), &all[i].before));
    }
    scenario_wait();
    for (int i = 0; i < SOCKETS; i++) {
        struct stat now, *before = &all[i].before;
        must(stat(scenario_path(all[i].file), &now));
        same(before->st_mode, now.st_mode); same(before->st_uid, now.st_uid); same(before->st_gid, now.st_gid);
    }
    return scenario_end();
}

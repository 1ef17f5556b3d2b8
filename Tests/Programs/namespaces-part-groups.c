// Mounts of a child that follow each other: a slave of one of its own, peers of which the one that shows most comes last; a file system that is read-only as a
// whole, one from the empty word, a bind whose source is no longer mounted, a second sysfs.
// "covered private|slave|shared": all that it has is shared in that way.  Started where mounts are shared and one covers another.
#include "namespaces-mounts.h"
#include <sys/socket.h>
#include <sys/un.h>
static int is_tmpfs(const char *path) { struct statfs s; return statfs(path, &s) == 0 && s.f_type == 0x01021994; }
static const char *place(const char *name) { static char path[8][600]; static int i; i = (i + 1) % 8; snprintf(path[i], 600, "%s", scenario_path(name)); return path[i]; }
static void covered(const char *kind) {
    must(unshare(CLONE_NEWNS));
    must(mount("none", "/", NULL, MS_REC | (!strcmp(kind, "private") ? MS_PRIVATE : MS_SLAVE), NULL));
    if (!strcmp(kind, "shared")) { must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)); must(mount("none", "/", NULL, MS_REC | MS_SHARED, NULL)); }
    must(mount("mine", place("a"), "tmpfs", 0, "size=64k"));
}
static void groups(void) {
    mounts_unshare(0);
    must(mount("master", place("a"), "tmpfs", 0, "size=64k")); must(mkdir(place("a/sub"), 0755));
    must(mount("none", place("a"), NULL, MS_SHARED, NULL));
    must(mount(place("a"), place("b"), NULL, MS_BIND, NULL)); must(mount("none", place("b"), NULL, MS_SLAVE, NULL));
    must(mount("wide", place("c"), "tmpfs", 0, "size=64k")); must(mkdir(place("c/sub"), 0755));
    must(mount("none", place("c"), NULL, MS_SHARED, NULL));
    must(mount(place("c/sub"), place("d"), NULL, MS_BIND, NULL));
    must(mount(place("c"), place("e"), NULL, MS_BIND, NULL)); must(umount(place("c")));
    must(mount("read only", place("f"), "tmpfs", 0, "size=64k")); mounts_write(place("f/file"), "kept");
    // With a name there.
    struct sockaddr_un n = { .sun_family = AF_UNIX, .sun_path = "f/name" };
    must(chdir(scenario_path(""))); int s = must(socket(AF_UNIX, SOCK_STREAM, 0)); must(bind(s, (void *)&n, sizeof n)); must(listen(s, 1));
    must(mount("none", place("f"), NULL, MS_REMOUNT | MS_RDONLY, "size=64k"));
    must(mount("", place("g"), "tmpfs", 0, "size=64k"));
    must(mount("/sys/kernel", place("h"), NULL, MS_BIND, NULL)); must(umount2("/sys", MNT_DETACH));
}
int main(int argc, char **argv) {
    for (const char *n = "abcdefghi"; *n; n++) must(mkdir(place((char[2]) { *n }), 0755));
    pid_t child = must(fork());
    if (!child) {
        if (argc > 2) covered(argv[2]); else groups();
        mounts_read(&mounts_before);
        scenario_touch("child");
        scenario_await("go");
        mounts_same();
        if (argc > 2) scenario_leave(3);
        must(mount("event", place("a/sub"), "tmpfs", 0, NULL)); check(is_tmpfs(place("b/sub")));
        must(umount(place("a/sub"))); must(mount("event", place("b/sub"), "tmpfs", 0, NULL));
        mounts_write(place("b/sub/x"), ""); check(access(place("a/sub/x"), F_OK) == -1);
        must(mkdir(place("d/deep"), 0755)); must(mount("event", place("d/deep"), "tmpfs", 0, NULL)); mounts_write(place("d/deep/x"), "below"); mounts_text_is(place("e/sub/deep/x"), "below");
        mounts_text_is(place("f/file"), "kept"); check(mount("none", place("f"), NULL, MS_REMOUNT | MS_BIND, NULL) == 0 && open(place("f/file"), O_WRONLY) == -1 && errno == EROFS);
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    scenario_child(child, 3);
    return scenario_end();
}

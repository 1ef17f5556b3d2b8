// What a child has mounted for itself that can't come back: "overlay", "removed", "terminal", "twice", "attribute", "loud"; what does, while others may
// stand in its way: "source", "bind" of $PLACE, "socket" named $NAME in $PLACE, "detached": $PLACE was mounted.  "inner": a name in mounts of a grandchild,
// which is in a pid namespace within a user namespace, and not the first there.
#include "namespaces-mounts.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/inotify.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
static void named(const char *name) {
    struct sockaddr_un n = { .sun_family = AF_UNIX };
    snprintf(n.sun_path, sizeof n.sun_path, "%s", name);
    int s = must(socket(AF_UNIX, SOCK_STREAM, 0)); must(bind(s, (void *)&n, sizeof n)); must(listen(s, 1));
}
static void follow(void) {
    pid_t child = must(fork());
    if (child) { int s; must(waitpid(child, &s, 0)); _exit(WEXITSTATUS(s)); }
}
int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    char a[600], b[600];
    snprintf(a, 600, "%s", scenario_path("a")); snprintf(b, 600, "%s", scenario_path("b"));
    must(mkdir(a, 0755)); must(mkdir(b, 0755));
    int ways[2]; must(pipe(ways));
    for (int k = 0; k < (!strcmp(kind, "twice") ? 2 : 1); k++) {
        pid_t child = must(fork());
        if (child) continue;
        int isInner = !strcmp(kind, "inner");
        mounts_unshare(isInner ? CLONE_NEWUSER | CLONE_NEWPID : 0);
        if (isInner) { follow(); follow(); mounts_unshare(0); must(mount("names", a, "tmpfs", 0, "")); must(chdir(a)); named("s"); }
        if (!strcmp(kind, "overlay")) { char o[2000]; snprintf(o, 2000, "lowerdir=%s:/usr", a); must(mount("over", b, "overlay", 0, o)); }
        if (!strcmp(kind, "removed")) { must(mkdir(mounts_at(a, "x"), 0755)); must(mount(mounts_at(a, "x"), b, NULL, MS_BIND, NULL)); must(rmdir(mounts_at(a, "x"))); }
        if (!strcmp(kind, "source")) { must(mkdir(mounts_at(a, "x"), 0755)); must(mount(mounts_at(a, "x"), b, NULL, MS_BIND, NULL)); }
        if (!strcmp(kind, "bind")) {
            struct stat st; must(stat(getenv("PLACE"), &st));
            const char *over = S_ISDIR(st.st_mode) ? b : mounts_at(b, "file");
            if (over != b) mounts_write(over, "");
            must(mount(getenv("PLACE"), over, NULL, MS_BIND, NULL));
        }
        if (!strcmp(kind, "detached")) { must(chdir(getenv("PLACE"))); must(umount2(getenv("PLACE"), MNT_DETACH)); }
        if (!strcmp(kind, "terminal")) { int m = must(posix_openpt(O_RDWR | O_NOCTTY)); grantpt(m); unlockpt(m); mounts_write(mounts_at(b, "console"), ""); must(mount(ptsname(m), mounts_at(b, "console"), NULL, MS_BIND, NULL)); }
        if (!strcmp(kind, "twice")) {
            // Neither is a copy of the other's.
            int mine[2];
            if (k == 0) { must(mount("both", a, "tmpfs", 0, "size=64k")); mine[0] = getpid(); mine[1] = must(syscall(428, AT_FDCWD, a, 1)); must(write(ways[1], mine, sizeof mine)); }     // open_tree
            else { must(read(ways[0], mine, sizeof mine)); must(syscall(429, must(syscall(438, must(syscall(434, mine[0], 0)), mine[1], 0)), "", AT_FDCWD, b, 4)); }                     // move_mount, pidfd_getfd
        }
        if (!strcmp(kind, "socket")) {
            must(chdir(getenv("PLACE")));
            named(getenv("NAME"));
        }
        int attribute = !strcmp(kind, "attribute"), queue = -1;
        if (attribute || !strcmp(kind, "loud")) {
            must(mount("memory", b, "tmpfs", 0, ""));
            mounts_write(mounts_at(b, "file"), "one");
            int flags = FS_IMMUTABLE_FL, fd = must(open(mounts_at(b, "file"), O_RDONLY));
            if (attribute) must(ioctl(fd, FS_IOC_SETFLAGS, &flags));
            close(fd);
            if (!attribute) { queue = must(inotify_init1(IN_NONBLOCK)); must(inotify_add_watch(queue, b, IN_ALL_EVENTS)); }
        }
        scenario_touch(k ? "second" : "child");
        scenario_await("go");
        // Nobody has looked, or he was not seen.
        if (queue >= 0) { char event[512]; same(-1, read(queue, event, sizeof event)); same(EAGAIN, errno); scenario_leave(0); }
        _exit(0);
    }
    if (!strcmp(kind, "twice")) scenario_await("second");
    scenario_await("child");
    scenario_wait();
    int status;
    while (wait(&status) > 0) check(WIFEXITED(status) && !WEXITSTATUS(status));
    return scenario_end();
}

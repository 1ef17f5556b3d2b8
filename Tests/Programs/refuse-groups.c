// What a child has mounted for itself that follows others in a way, or in a number, that can't come back: "slave", "peers", "covered", "source", "many", "stacked"
// (a copy of what has two mounts upon each other); and "point":
// a bind whose mount point lies beside its source.
#include "namespaces-mounts.h"
static const char *place(const char *name) { static char path[8][600]; static int i; i = (i + 1) % 8; snprintf(path[i], 600, "%s", scenario_path(name)); return path[i]; }
// What covers it comes from outside, when it has other options already.
static void covered(void) {
    int ways[2], back[2]; must(pipe(ways)); must(pipe(back));
    must(mount("lower", place("a"), "tmpfs", 0, "size=64k")); must(mount("none", place("a"), NULL, MS_SHARED, NULL));
    char c;
    if (must(fork())) { must(read(ways[0], &c, 1)); must(mount("upper", place("a"), "tmpfs", 0, "size=64k")); must(write(back[1], "", 1)); scenario_await("go"); _exit(wait(NULL) < 0); }
    must(unshare(CLONE_NEWNS));
    must(mount("none", place("a"), NULL, MS_SLAVE, NULL)); must(mount("none", place("a"), NULL, MS_REMOUNT | MS_BIND | MS_NOEXEC, NULL));
    must(write(ways[1], "", 1)); must(read(back[0], &c, 1));
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
}
int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    for (const char *n = "abc"; *n; n++) must(mkdir(place((char[2]) { *n }), 0755));
    must(mkdir(place("a/x"), 0755));
    if (!strcmp(kind, "stacked")) { mounts_unshare(0); for (int i = 0; i < 2; i++) must(mount("one", place("a/x"), "tmpfs", 0, "size=64k")); }
    pid_t child = must(fork());
    if (!child) {
        mounts_unshare(0);
        if (!strcmp(kind, "stacked")) must(mount(place("a"), place("b"), NULL, MS_BIND | MS_REC, NULL));
        if (!strcmp(kind, "covered")) covered();
        if (!strcmp(kind, "slave") || !strcmp(kind, "peers")) {
            must(mount("all", place("a"), "tmpfs", 0, NULL)); must(mkdir(place("a/x"), 0755)); must(mkdir(place("a/y"), 0755));
            must(mount("none", place("a"), NULL, MS_SHARED, NULL));
            must(mount(place("a/x"), place("b"), NULL, MS_BIND, NULL)); must(mount(place("a/y"), place("c"), NULL, MS_BIND, NULL));
            if (!strcmp(kind, "slave")) must(mount("none", place("c"), NULL, MS_SLAVE, NULL));
            must(umount(place("a")));
        }
        if (!strcmp(kind, "source")) must(mount("/a/name", place("b"), "sysfs", 0, NULL));
        if (!strcmp(kind, "many")) for (int i = 0; i < 4096; i++) must(mount(place("a/x"), place("b"), NULL, MS_BIND, NULL));
        if (!strcmp(kind, "point")) must(mount(place("a/x"), place("b"), NULL, MS_BIND, NULL));
        scenario_touch("child");
        scenario_await("go");
        _exit(0);
    }
    scenario_await("child");
    scenario_wait();
    while (wait(NULL) > 0) {}
    return scenario_end();
}

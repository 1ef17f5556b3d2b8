// Two mount namespaces, one a copy of the other, which two processes share: what was mounted before is one file system in both, what came later is not; and a
// third that has unmounted something.
#include "namespaces-mounts.h"
static char one[600], two[600], three[600];
static pid_t start(const char *name, void (*life)(void)) { pid_t p = must(fork()); if (p) { scenario_await(name); return p; } life(); scenario_leave(4); return 0; }
static void remain(const char *name) { mounts_read(&mounts_before); scenario_touch(name); scenario_await("go"); mounts_same(); }
static void mate(void) { int fd = must(open(mounts_at(two, "mine"), O_RDONLY)); remain("mate"); char t[9] = ""; same(5, read(fd, t, 8)); check(!strcmp(t, "later")); scenario_await("written"); mounts_text_is(mounts_at(one, "common"), "from the copy"); }
static void copy(void) {
    must(unshare(CLONE_NEWNS));
    must(mount("later", two, "tmpfs", 0, "size=64k")); mounts_write(mounts_at(two, "mine"), "later");
    pid_t p = start("mate", mate);
    int fd = must(open(mounts_at(one, "common"), O_RDWR));
    remain("copy");
    must(ftruncate(fd, 0)); must(write(fd, "from the copy", 13));
    scenario_touch("written");
    scenario_child(p, 4);
}
static void without(void) { must(unshare(CLONE_NEWNS)); must(umount(three)); remain("without"); check(access(mounts_at(three, "file"), F_OK) == -1); }
int main(void) {
    char *all[] = { one, two, three };
    for (int i = 0; i < 3; i++) { snprintf(all[i], 600, "%s", scenario_path((const char *[]) { "one", "two", "three" }[i])); must(mkdir(all[i], 0755)); }
    pid_t child = must(fork());
    if (!child) {
        mounts_unshare(0);
        must(mount("common", one, "tmpfs", 0, "size=64k")); mounts_write(mounts_at(one, "common"), "at first");
        must(mount("third", three, "tmpfs", 0, "size=64k")); mounts_write(mounts_at(three, "file"), "there");
        pid_t c = start("copy", copy), w = start("without", without);
        mounts_read(&mounts_before);
        scenario_touch("child");
        scenario_await("written");
        mounts_same();
        mounts_text_is(mounts_at(one, "common"), "from the copy"); mounts_text_is(mounts_at(three, "file"), "there");
        check(access(mounts_at(two, "mine"), F_OK) == -1);
        scenario_child(c, 4); scenario_child(w, 4);
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    check(access(mounts_at(one, "common"), F_OK) == -1);
    scenario_child(child, 3);
    return scenario_end();
}

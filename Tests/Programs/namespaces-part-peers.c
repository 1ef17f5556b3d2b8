// A child whose mounts receive what is mounted outside (slave), of which some are shared among themselves, and one can't be bound.  Started where mounts are shared.
// "outside": a child whose mounts are shared with those outside.
#include "namespaces-mounts.h"
static char a[600], b[600], c[600], event[600];
static int is_tmpfs(const char *path) { struct statfs s; return statfs(path, &s) == 0 && s.f_type == 0x01021994; }
static void compare(void) {
    scenario_touch("child");
    scenario_await("go");
    mounts_same();
    scenario_touch("compared");
    scenario_await("mounted");
    check(is_tmpfs(event));
}
static void with_outside(void) {
    must(unshare(CLONE_NEWNS));
    mounts_read(&mounts_before);
    compare();
    must(umount(event));
    scenario_leave(3);
}
int main(int argc, char **argv) {
    char *all[] = { a, b, c, event };
    for (int i = 0; i < 4; i++) { snprintf(all[i], 600, "%s", scenario_path((const char *[]) { "a", "b", "c", "event" }[i])); must(mkdir(all[i], 0755)); }
    pid_t child = must(fork());
    if (!child && argc > 1) with_outside();
    if (!child) {
        must(unshare(CLONE_NEWNS));
        must(mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL));
        must(mount("shared", a, "tmpfs", 0, "size=64k")); must(mkdir(mounts_at(a, "sub"), 0755));
        must(mount("none", a, NULL, MS_SHARED, NULL));
        must(mount(a, b, NULL, MS_BIND, NULL));
        must(mount("alone", c, "tmpfs", 0, "size=64k"));
        must(mount("none", c, NULL, MS_UNBINDABLE, NULL));
        mounts_read(&mounts_before);
        int slaves = 0;
        for (int i = 0; i < mounts_before.count; i++) slaves += !!strstr(mounts_before.line[i], "master:");
        check(slaves > 3);
        compare();
        must(mount("inner", mounts_at(a, "sub"), "tmpfs", 0, "size=64k"));
        mounts_write(mounts_at(a, "sub/file"), "seen by both"); mounts_text_is(mounts_at(b, "sub/file"), "seen by both");
        check(mount(c, b, NULL, MS_BIND, NULL) == -1 && errno == EINVAL);
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    scenario_await("compared");
    check(!is_tmpfs(a));
    must(mount("event", event, "tmpfs", 0, "size=64k"));
    scenario_touch("mounted");
    scenario_child(child, 3);
    if (argc > 1) check(!is_tmpfs(event)); else must(umount(event));
    return scenario_end();
}

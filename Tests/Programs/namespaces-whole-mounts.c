// The whole tree in mounts of its own that are more than binds and tmpfs: one upon another, what is there outside with other options, message queues,
// a file over a file; with what is open and mapped there.
#include "namespaces-mounts.h"
int main(void) {
    char a[600], b[600], c[600], e[600];
    char *all[] = { a, b, c, e };
    for (int i = 0; i < 4; i++) { snprintf(all[i], 600, "%s", scenario_path((const char *[]) { "from", "memory", "message queues", "file" }[i])); if (i < 3) must(mkdir(all[i], 0755)); }
    mounts_write(mounts_at(a, "one"), "outside"); mounts_write(e, "over");
    mounts_unshare(CLONE_NEWIPC);
    must(mount("lower", b, "tmpfs", 0, "size=64k")); mounts_write(mounts_at(b, "hidden"), "covered");
    must(mount("upper", b, "tmpfs", MS_NOSUID, "size=128k")); mounts_write(mounts_at(b, "kept"), "in memory");
    must(mount("none", c, "mqueue", 0, NULL));
    must(mount(mounts_at(b, "kept"), e, NULL, MS_BIND, NULL));
    must(mount(a, a, NULL, MS_BIND, NULL)); must(mount("none", a, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    int page = must(open(mounts_at(b, "kept"), O_RDWR));
    must(ftruncate(page, 4096));
    char *mapped = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0));
    strcpy(mapped, "mapped");
    must(chdir(b));
    mounts_read(&mounts_before);
    pid_t child = must(fork());
    if (!child) { scenario_await("go"); mounts_same(); check(!strcmp(mapped, "mapped") || !strcmp(mapped, "once more")); scenario_leave(3); }
    scenario_wait();
    mounts_same();
    check(!strcmp(mapped, "mapped")); strcpy(mapped, "once more"); mounts_text_is("kept", "once more"); mounts_text_is(e, "once more");
    mounts_text_is(mounts_at(a, "one"), "outside"); check(open(mounts_at(a, "one"), O_WRONLY) == -1 && errno == EROFS);
    scenario_child(child, 3);
    must(chdir("/")); must(umount(e)); must(umount2(b, MNT_DETACH)); mounts_text_is(mounts_at(b, "hidden"), "covered"); mounts_text_is(e, "over");
    return scenario_end();
}

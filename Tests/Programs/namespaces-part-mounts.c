// A child in mounts of its own, while its parent is where the tree was started: a folder and a file bound elsewhere, read only, a tmpfs with what is in it,
// mounts on these and on each other, message queues; and files there that are open, mapped, deleted, or where it works.
#include "namespaces-mounts.h"
static char a[600], b[600], c[600], d[600], e[600];
int main(void) {
    char *all[] = { a, b, c, d, e };
    for (int i = 0; i < 5; i++) { snprintf(all[i], 600, "%s", scenario_path((const char *[]) { "from", "bound", "memory", "message queues", "file" }[i])); if (i < 4) must(mkdir(all[i], 0755)); }
    mounts_write(mounts_at(a, "one"), "first line\nsecond line\n");
    mounts_write(mounts_at(c, "below"), "hidden");
    mounts_write(e, "over");
    pid_t child = must(fork());
    if (!child) {
        mounts_unshare(CLONE_NEWIPC);
        must(mount(a, b, NULL, MS_BIND, NULL));
        must(mount("none", b, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL));
        must(mount("memory", c, "tmpfs", MS_NODEV | MS_NOATIME, "size=1m,mode=0751,nr_inodes=100"));
        must(mkdir(mounts_at(c, "sub"), 0700)); must(mkdir(mounts_at(c, "folder"), 0700));
        mounts_write(mounts_at(c, "kept"), "in memory"); mounts_write(mounts_at(c, "sub/hidden"), "covered"); must(symlink("kept", mounts_at(c, "link"))); must(mkdir(mounts_at(c, "no\xfftext"), 0700)); mounts_write(mounts_at(c, "no\xfftext/\xf4\x8f\xbc\x80"), "bytes");
        must(mount("inner", mounts_at(c, "sub"), "tmpfs", 0, "size=64k"));
        must(mount("upper", mounts_at(c, "sub"), "tmpfs", MS_NOSUID, "size=128k"));
        mounts_write(mounts_at(c, "sub/upper"), "above");
        must(mount(mounts_at(c, "kept"), e, NULL, MS_BIND, NULL));
        must(mount("none", d, "mqueue", 0, NULL));
        must(mount("none", "/proc", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
        int through = must(open(mounts_at(b, "one"), O_RDONLY)), memory = must(open(mounts_at(c, "kept"), O_RDWR)), gone = must(open(mounts_at(c, "gone"), O_CREAT | O_RDWR, 0640));
        lseek(through, 11, SEEK_SET);
        must(write(gone, "no name", 7)); must(unlink(mounts_at(c, "gone")));
        mounts_write(mounts_at(c, "page"), "mapped page");
        int page = must(open(mounts_at(c, "page"), O_RDWR));
        char *mapped = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0)), where[700], text[64] = "";
        strcpy(mapped, "written");
        close(page);
        must(chdir(mounts_at(c, "folder")));
        mounts_read(&mounts_before);
        scenario_touch("child");
        scenario_await("go");
        mounts_same();
        same(12, read(through, text, 63)); check(!strcmp(text, "second line\n"));
        mounts_text_is(mounts_at(b, "one"), "first line\nsecond line\n");
        check(open(mounts_at(b, "one"), O_WRONLY) == -1 && errno == EROFS);
        struct statfs proc; must(statfs("/proc", &proc)); check((proc.f_flags & 15) == (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
        mounts_text_is(mounts_at(c, "kept"), "in memory"); mounts_text_is(mounts_at(c, "link"), "in memory"); mounts_text_is(mounts_at(c, "no\xfftext/\xf4\x8f\xbc\x80"), "bytes"); mounts_text_is(e, "in memory"); mounts_text_is(mounts_at(c, "sub/upper"), "above");
        must(pwrite(memory, "IN", 2, 0)); mounts_text_is(e, "IN memory");
        must(lseek(gone, 0, SEEK_SET)); memset(text, 0, 64); same(7, read(gone, text, 63)); check(!strcmp(text, "no name"));
        check(!strcmp(mapped, "written")); strcpy(mapped, "once more"); mounts_text_is(mounts_at(c, "page"), "once more\0e");
        check(getcwd(where, sizeof where) && !strcmp(where, mounts_at(c, "folder")));
        must(umount(mounts_at(c, "sub"))); must(umount(mounts_at(c, "sub"))); mounts_text_is(mounts_at(c, "sub/hidden"), "covered");
        must(umount(d));
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    mounts_text_is(mounts_at(c, "below"), "hidden"); mounts_text_is(e, "over");
    scenario_child(child, 3);
    return scenario_end();
}

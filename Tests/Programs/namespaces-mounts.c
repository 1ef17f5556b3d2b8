// A tree whose mounts nobody else sees: a folder bound to another place, one that only reads, an empty tmpfs.
#include "scenario.h"
#include <sys/mount.h>
#include <sys/statfs.h>
static char place[4][600];
static const char *at(int folder, const char *name) { static char path[700]; snprintf(path, sizeof path, "%s/%s", place[folder], name); return path; }
static void look(void) {
    struct statfs s;
    char text[64] = "";
    int fd = must(open(at(1, "file"), O_RDONLY));
    must(read(fd, text, 63));
    close(fd);
    check(!strncmp(text, "first line\n", 11));
    check(open(at(2, "file"), O_WRONLY) == -1 && errno == EROFS);
    must(statfs(place[3], &s));
    same(0x01021994, s.f_type);
    check(s.f_blocks * s.f_bsize == 1 << 20);
    check(access(at(3, "below"), F_OK) == -1);
}
int main(void) {
    scenario_become_root(NULL);
    const char *names[] = { "source", "bound", "read", "memory" };
    for (int i = 0; i < 4; i++) { snprintf(place[i], sizeof place[i], "%s", scenario_path(names[i])); must(mkdir(place[i], 0755)); }
    close(must(open(at(3, "below"), O_CREAT | O_WRONLY, 0644)));
    int fd = must(open(at(0, "file"), O_CREAT | O_RDWR, 0644));
    must(write(fd, "first line\nsecond line\n", 23));
    close(fd);
    must(unshare(CLONE_NEWNS));
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    must(mount(place[0], place[1], NULL, MS_BIND, NULL));
    must(mount(place[0], place[2], NULL, MS_BIND, NULL));
    must(mount("none", place[2], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL));
    must(mount("memory", place[3], "tmpfs", MS_NODEV, "size=1m,mode=0751"));
    int through = must(open(at(1, "file"), O_RDWR));
    lseek(through, 11, SEEK_SET);
    must(chdir(place[2]));
    look();
    pid_t child = must(fork());
    if (!child) {
        scenario_touch("child");
        scenario_await("go");
        look();
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    look();
    char text[64] = "", where[700];
    same(12, read(through, text, 63));
    check(!strcmp(text, "second line\n"));
    check(getcwd(where, sizeof where) && !strcmp(where, place[2]));
    check(access("file", R_OK) == 0);
    scenario_child(child, 3);
    return scenario_end();
}

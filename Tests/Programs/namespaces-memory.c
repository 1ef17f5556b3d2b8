// A tmpfs that only the tree sees, with something in it: folders, files, holes, links, a FIFO; one of the files is open, one is mapped.
#include "scenario.h"
#include <sys/mount.h>
static char place[600];
static const char *at(const char *name) { static __thread char path[700]; snprintf(path, sizeof path, "%s/%s", place, name); return path; }
static void put(const char *name, mode_t mode, const char *text) {
    int fd = must(open(at(name), O_CREAT | O_RDWR, 0600));
    must(write(fd, text, strlen(text)));
    must(fchmod(fd, mode));
    close(fd);
}
static void describe(const char *name, char *out, int size) {
    struct stat s;
    must(lstat(at(name), &s));
    if (!strcmp(name, "folder/holes")) s.st_atim = (struct timespec){ 0 };      // a restart maps it, which counts as reading
    snprintf(out, size, "%s: %o %d %d %ld %ld %ld.%09ld %ld.%09ld blocks %ld", name, s.st_mode, s.st_uid, s.st_gid, (long)s.st_nlink, S_ISDIR(s.st_mode) ? 0 : (long)s.st_size,
             s.st_mtim.tv_sec, s.st_mtim.tv_nsec, s.st_atim.tv_sec, s.st_atim.tv_nsec, S_ISREG(s.st_mode) ? (long)s.st_blocks : 0);
}
static const char *names[] = { ".", "folder", "folder/inner", "file", "folder/other-name", "folder/holes", "empty", "link", "fifo", "folder/set-uid" };
enum { COUNT = sizeof names / sizeof names[0] };
int main(void) {
    scenario_become_root(NULL);
    char before[COUNT][300], after[300], text[64] = "";
    snprintf(place, sizeof place, "%s", scenario_path("memory"));
    must(mkdir(place, 0755));
    must(unshare(CLONE_NEWNS));
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    must(mount("memory", place, "tmpfs", MS_NODEV, "size=8m"));
    must(mkdir(at("folder"), 0700)); must(mkdir(at("folder/inner"), 01777));
    must(chmod(at("folder/inner"), 01777));
    put("file", 0640, "first line\nsecond line\n");
    char file[700];
    snprintf(file, sizeof file, "%s", at("file"));
    must(link(file, at("folder/other-name")));
    put("folder/holes", 0600, "");
    int fd = must(open(at("folder/holes"), O_RDWR));
    must(pwrite(fd, "far away", 8, 3 << 20));
    must(ftruncate(fd, 5 << 20));
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    strcpy(map, "mapped");
    put("empty", 0444, "");
    put("folder/set-uid", 0600, "#!/bin/sh\n");
    if (!geteuid()) chown(at("folder/set-uid"), 0, 0);
    must(chmod(at("folder/set-uid"), 04755));
    must(symlink("folder/inner/../holes", at("link")));
    must(mkfifo(at("fifo"), 0620));
    int through = must(open(at("file"), O_RDWR | O_APPEND));
    lseek(through, 11, SEEK_SET);
    must(chmod(place, 0711));
    struct timespec old[2] = { { 1000000000, 123456789 }, { 1100000000, 987654321 } };
    must(utimensat(AT_FDCWD, at("folder"), old, 0)); must(utimensat(AT_FDCWD, at("link"), old, AT_SYMLINK_NOFOLLOW)); must(utimensat(AT_FDCWD, at("file"), old, 0));
    must(chdir(at("folder/inner")));
    for (int i = 0; i < COUNT; i++) describe(names[i], before[i], 300);
    scenario_wait();
    for (int i = 0; i < COUNT; i++) {
        describe(names[i], after, 300);
        if (strcmp(before[i], after)) scenario_differs("%s, was %s", after, before[i]);
    }
    same(12, read(through, text, 63));
    check(!strcmp(text, "second line\n"));
    must(write(through, "third\n", 6));
    struct stat a, b;
    must(stat(at("folder/other-name"), &a)); must(fstat(through, &b));
    same(29, a.st_size);
    same(a.st_ino, b.st_ino);
    check(!strcmp(map, "mapped"));
    strcpy(map, "again");
    same(5, pread(fd, text, 5, 0));
    check(!memcmp(text, "again", 5));
    same(8, pread(fd, text, 8, 3 << 20));
    check(!memcmp(text, "far away", 8));
    char target[64] = "";
    same(21, readlink(at("link"), target, 63));
    check(!strcmp(target, "folder/inner/../holes"));
    check(access("../holes", R_OK) == 0);
    return scenario_end();
}

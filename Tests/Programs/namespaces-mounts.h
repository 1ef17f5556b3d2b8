// Mounts of a part of a tree: a child in mounts of its own, and what /proc/self/mountinfo shows there, before and after.
#include "scenario.h"
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
struct mounts { int count; char line[400][600]; };
static struct mounts mounts_before, mounts_after;
// Of a copy with another root only what lies on what is the same again, not the order of the others.
static int mounts_sorted;
static int mounts_compare(const void *a, const void *b) { return strcmp(a, b); }
// Without what is given anew: numbers of mounts, devices and peers.  What control groups are called depends on who looks.
static void mounts_read(struct mounts *m) {
    FILE *f = must(fopen("/proc/self/mountinfo", "re"));
    char line[4096], root[2048], point[2048], options[256], rest[2048];
    for (m->count = 0; m->count < 400 && fgets(line, sizeof line, f);) {
        if (sscanf(line, "%*d %*d %*s %2047s %2047s %255s %2047[^\n]", root, point, options, rest) != 4) continue;
        for (char *p = rest, *q = rest; ; p++) { *q++ = *p; if (!*p) break; if (*p == ':' && strstr(p, " - ")) while (p[1] >= '0' && p[1] <= '9') p++; }
        char *system = strncmp(rest, "- ", 2) ? strstr(rest, " - ") + 3 : rest + 2;
        snprintf(m->line[m->count++], 600, "%s %s %s %s", strncmp(system, "cgroup", 6) ? root : "*", point, options, rest);
    }
    fclose(f);
    if (mounts_sorted) qsort(m->line, m->count, sizeof m->line[0], mounts_compare);
}
static int mounts_shows_processes(const char *line) { return !!strstr(line, "- proc "); }
// The same mounts in the same order.  What shows processes is mounted when they are there; a restart with pids of its own has one more /proc.
static void mounts_same(void) {
    mounts_read(&mounts_after);
    int k = 0;
    for (int i = 0; i < mounts_before.count; i++) {
        const char *line = mounts_before.line[i];
        int found = 0;
        if (mounts_shows_processes(line)) { for (int j = 0; j < mounts_after.count; j++) found |= mounts_shows_processes(mounts_after.line[j]) && !strncmp(mounts_after.line[j], line, strcspn(line, " ") + 1); }
        else {
            while (k < mounts_after.count && mounts_shows_processes(mounts_after.line[k])) k++;
            found = k < mounts_after.count && !strcmp(line, mounts_after.line[k]);
            if (!found) scenario_differs("mount is now: %s", k < mounts_after.count ? mounts_after.line[k] : "not there");
            k++;
        }
        if (!found) scenario_differs("mount was: %s", line);
    }
    for (; k < mounts_after.count; k++) if (!mounts_shows_processes(mounts_after.line[k])) scenario_differs("one more mount: %s", mounts_after.line[k]);
}
// A child goes into mounts of its own: as root, or as whom a user namespace makes root.
static void mounts_unshare(int flags) {
    int uid = geteuid(), gid = getegid();
    if (uid) flags |= CLONE_NEWUSER;
    must(unshare(flags | CLONE_NEWNS));
    if (flags & CLONE_NEWUSER) {
        char map[64];
        int fd = must(open("/proc/self/setgroups", O_WRONLY)); must(write(fd, "deny", 4)); close(fd);
        fd = must(open("/proc/self/uid_map", O_WRONLY)); must(write(fd, map, sprintf(map, "0 %d 1", uid))); close(fd);
        fd = must(open("/proc/self/gid_map", O_WRONLY)); must(write(fd, map, sprintf(map, "0 %d 1", gid))); close(fd);
    }
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
}
static void mounts_write(const char *path, const char *text) { int fd = must(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644)); must(write(fd, text, strlen(text))); close(fd); }
static void mounts_text_is(const char *path, const char *wanted) {
    char text[256] = "";
    int fd = open(path, O_RDONLY);
    if (fd < 0) { scenario_differs("%s: %s", path, strerror(errno)); return; }
    if (read(fd, text, 255) < 0 || strcmp(text, wanted)) scenario_differs("%s has '%s', not '%s'", path, text, wanted);
    close(fd);
}
static const char *mounts_at(const char *folder, const char *name) { static char path[8][900]; static int i; i = (i + 1) % 8; snprintf(path[i], 900, "%s/%s", folder, name); return path[i]; }

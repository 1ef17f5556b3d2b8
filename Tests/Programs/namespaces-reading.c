// Folders of a tmpfs that only the tree sees are read on where they were, also when names in them had been removed, renamed or made meanwhile.
#include "namespaces-mounts.h"
enum { FILES = 300 };
static char place[600];
static const char *at(const char *folder, int i) { static char path[2][700]; static int k; k ^= 1; snprintf(path[k], sizeof path[k], "%s%s/%d", place, folder, i); return path[k]; }
static void make(const char *path) { close(must(open(path, O_CREAT | O_WRONLY | O_EXCL, 0600))); }
// Half of it is read by getdents64(2) of a few names at a time, so that the position is not at the end of what libc has read ahead.
static int few(int fd, int *names) {
    char b[256]; int n = 0;
    long got = must(syscall(SYS_getdents64, fd, b, sizeof b));
    for (long i = 0; i < got; i += *(unsigned short *)(b + i + 16)) if (b[i + 19] != '.') names[n++] = atoi(b + i + 19);
    return got == 0 ? -1 : n;
}
int main(int argc, char **argv) {
    int gone = argc > 1 ? atoi(argv[1]) : 0, status = 1;
    if (argc > 2 && fork()) { while (wait(&status) < 0 && errno == EINTR) { } return WEXITSTATUS(status); }     // mounts of a part
    scenario_become_root(NULL);
    snprintf(place, sizeof place, "%s", scenario_path("memory"));
    must(mkdir(place, 0755));
    must(unshare(CLONE_NEWNS));
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    must(mount("memory", place, "tmpfs", 0, "size=8m"));
    char folder[700]; snprintf(folder, sizeof folder, "%s/folder", place);
    must(mkdir(folder, 0755));
    static const char *folders[] = { "", "/folder" };
    int fds[2], seen[2][2 * FILES] = { 0 }, expected[2][2 * FILES] = { 0 }, names[64], n; long where[2];
    // One at its end, whose cookies the program knows, and one whose last names are gone that have been read.
    char known[700], last[700]; snprintf(known, sizeof known, "%s/known", place); snprintf(last, sizeof last, "%s/last", place);
    must(mkdir(known, 0755)); must(mkdir(last, 0755));
    for (int i = 1; i < 40; i++) { make(at("/known", i)); make(at("/last", i)); }
    for (int i = 1; i < 20; i++) must(unlink(at("/known", i)));
    int ended = must(open(known, O_RDONLY | O_DIRECTORY)), trailing = must(open(last, O_RDONLY | O_DIRECTORY)), after[64], first = few(trailing, names), count;
    check(first > 0 && few(ended, names) > 0); long cookie = must(lseek(ended, 0, SEEK_CUR));
    count = few(ended, after); while (few(ended, names) >= 0) { }
    for (int i = 30; i < 40; i++) must(unlink(at("/last", i)));
    for (int f = 0; f < 2; f++) {
        for (int i = 1; i < FILES; i++) make(at(folders[f], i));
        for (int i = 0; i < gone; i++) { make(at(folders[f], 9999)); must(unlink(at(folders[f], 9999))); }
        for (int i = 1; i < FILES; i += 3) must(unlink(at(folders[f], i)));
        for (int i = 2; i < FILES; i += 30) must(rename(at(folders[f], i), at(folders[f], i + FILES)));
        must(link(at(folders[f], 3), at(folders[f], 1)));
        fds[f] = must(open(f ? folder : place, O_RDONLY | O_DIRECTORY));
        for (int i = 0; i < 10; i++) { n = few(fds[f], names); for (int k = 0; k < n; k++) seen[f][names[k]]++; }
        for (int i = 6; i < FILES; i += 21) unlink(at(folders[f], i));          // read already, or not yet
        make(at(folders[f], 4));
        if (argc > 1 && !strcmp(argv[1], "replaced")) { make(at(folders[f], 9998)); must(rename(at(folders[f], 9998), at(folders[f], FILES - 3))); }
        // What is still to come, by another descriptor at the same position.
        where[f] = must(lseek(fds[f], 0, SEEK_CUR));
        int other = must(open(f ? folder : place, O_RDONLY | O_DIRECTORY));
        same(where[f], lseek(other, where[f], SEEK_SET));
        while ((n = few(other, names)) >= 0) for (int k = 0; k < n; k++) expected[f][names[k]]++;
        close(other);
        for (int i = 0; i < 2 * FILES; i++) expected[f][i] += seen[f][i];
    }
    scenario_wait();
    same(cookie, lseek(ended, cookie, SEEK_SET)); same(count, few(ended, names)); check(!memcmp(names, after, count * sizeof names[0]));
    // What is made now is before what has been read.
    make(at("/last", 50)); make(at("/last", 51));
    while ((n = few(trailing, names)) >= 0) for (int k = 0; k < n; k++) check(names[k] < 30);
    for (int f = 0; f < 2; f++) {
        same(where[f], lseek(fds[f], 0, SEEK_CUR));
        while ((n = few(fds[f], names)) >= 0) for (int k = 0; k < n; k++) seen[f][names[k]]++;
        for (int i = 0; i < 2 * FILES; i++) if (seen[f][i] != expected[f][i]) scenario_differs("folder %d: %d was seen %d times, not %d", f, i, seen[f][i], expected[f][i]);
    }
    return scenario_end();
}

// Names that change under open files: renamed, replaced, unlinked with another link left here or in a neighbouring folder, and one that looks deleted.
#include "scenario.h"
static int make(const char *name, const char *text) { int fd = must(open(scenario_path(name), O_RDWR | O_CREAT, 0600)); must(write(fd, text, strlen(text))); return fd; }
static const char *shown(int fd) {
    static char link[512]; char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, link, sizeof link - 1);
    link[n < 0 ? 0 : n] = 0;
    return link;
}
static void contains(int fd, const char *text, int links) {
    char b[64] = "";
    pread(fd, b, sizeof b - 1, 0);
    if (strcmp(b, text)) scenario_differs("%s contains '%s', not '%s'", shown(fd), b, text);
    struct stat s; must(fstat(fd, &s)); same(links, s.st_nlink); same(strlen(text), lseek(fd, 0, SEEK_CUR));
}
static void pathname(char *to, const char *name) { snprintf(to, 512, "%s", scenario_path(name)); }
int main(void) {
    char a[512], b[512];
    int renamed = make("old", "renamed"), replaced = make("victim", "replaced"), linked = make("first", "linked"), far = make("here", "far"), odd = make("odd (deleted)", "odd");
    pathname(a, "old"); pathname(b, "new"); must(rename(a, b));
    make("usurper", "somebody else's");
    pathname(a, "usurper"); pathname(b, "victim"); must(rename(a, b));
    pathname(a, "first"); pathname(b, "second"); must(link(a, b)); must(unlink(a));
    mkdir(scenario_path("folder"), 0700);
    pathname(a, "here"); pathname(b, "folder/there"); must(link(a, b)); must(unlink(a));
    int same_file = must(open(scenario_path("second"), O_RDONLY));
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, linked, 0);
    scenario_wait();
    check(!strcmp(shown(renamed), scenario_path("new")));
    check(strstr(shown(replaced), " (deleted)"));
    check(!strcmp(shown(odd), scenario_path("odd (deleted)")));
    contains(renamed, "renamed", 1); contains(replaced, "replaced", 0); contains(linked, "linked", 1); contains(far, "far", 1); contains(odd, "odd", 1);
    must(pwrite(linked, "L", 1, 0));        // the descriptor, the other name and the mapping are one file
    char c = 0; must(pread(same_file, &c, 1, 0)); same('L', c); same('L', map[0]);
    map[1] = 'I'; must(pread(same_file, &c, 1, 1)); same('I', c);
    struct stat x, y; must(fstat(linked, &x)); must(fstat(same_file, &y)); same(x.st_ino, y.st_ino);
    return scenario_end();
}

// Files and a folder that were opened before their modes forbade that, as a pack of git is while it is written.
#include "scenario.h"
static int opened(const char *name, int flags, mode_t mode, mode_t later) {
    int fd = must(open(scenario_path(name), flags, mode));
    if (!(flags & O_DIRECTORY)) { must(write(fd, "before ", 7)); must(ftruncate(fd, 4096)); }
    must(chmod(scenario_path(name), later));
    return fd;
}
static mode_t mode_of(const char *name) { struct stat s; must(stat(scenario_path(name), &s)); return s.st_mode & 07777; }
int main(void) {
    must(mkdir(scenario_path("folder"), 0755));
    int created = opened("created", O_RDWR | O_CREAT | O_EXCL, 0444, 0444), closed = opened("closed", O_RDWR | O_CREAT, 0644, 0), folder = opened("folder", O_RDONLY | O_DIRECTORY, 0, 0);
    int mapped = opened("mapped", O_RDWR | O_CREAT, 0644, 0);
    char *shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0)), *own = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped, 0));
    close(mapped);
    own[100] = 'x';
    // Who shares them gets them before there are namespaces.
    pid_t child = must(fork());
    if (child == 0) { scenario_await("go"); return 0; }
    scenario_wait();
    same(child, wait(NULL));
    must(write(created, "after", 5)); must(write(closed, "after", 5));
    char text[16] = "";
    same(12, pread(created, text, 12, 0)); check(!strcmp(text, "before after"));
    same(12, pread(closed, text, 12, 0)); check(!strcmp(text, "before after"));
    struct stat s;
    must(fstat(folder, &s)); check(S_ISDIR(s.st_mode));
    memcpy(shared, "shared", 6);
    check(!memcmp(own, "shared ", 7) || !memcmp(own, "before ", 7)); same('x', own[100]);
    same(0444, mode_of("created")); same(0, mode_of("closed")); same(0, mode_of("mapped")); same(0, mode_of("folder"));
    chmod(scenario_path("folder"), 0755);
    return scenario_end();
}

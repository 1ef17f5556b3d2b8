// Directories: reading one goes on, openat and fchdir through its descriptor work.
#include "scenario.h"
int main(void) {
    must(mkdir(scenario_path("folder"), 0700));
    char name[64];
    for (int i = 0; i < 300; i++) { snprintf(name, sizeof name, "folder/file-%03d", i); scenario_touch(name); }
    int seen[300] = { 0 };
    DIR *d = opendir(scenario_path("folder"));
    for (int i = 0; i < 100; i++) { struct dirent *e = readdir(d); if (!strncmp(e->d_name, "file-", 5)) seen[atoi(e->d_name + 5)]++; }
    int fd = must(open(scenario_path("folder"), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), path = must(open(scenario_path("folder"), O_PATH | O_DIRECTORY));
    scenario_wait();
    for (struct dirent *e; (e = readdir(d)); ) if (!strncmp(e->d_name, "file-", 5)) seen[atoi(e->d_name + 5)]++;
    for (int i = 0; i < 300; i++) same(1000 * i + 1, 1000 * i + seen[i]);
    int f = openat(fd, "new", O_WRONLY | O_CREAT, 0600);
    check(f >= 0);
    same(0, faccessat(path, "file-000", F_OK, 0));
    must(fchdir(fd));
    same(0, access("new", F_OK));
    same(FD_CLOEXEC, fcntl(fd, F_GETFD));
    return scenario_end();
}

// Open files of /proc: of the process itself, of another of the tree, of the system; half-read folders of it; namespaces.
#include "scenario.h"
static int child_main(void *a) { (void)a; scenario_await("checked"); return 0; }
static void *thread(void *a) { (void)a; for (;;) pause(); return 0; }
int main(void) {
    pid_t child = must(fork());
    if (!child) { scenario_await("checked"); scenario_leave(0); }
    pthread_t t; must0(pthread_create(&t, NULL, thread, NULL));
    char path[64], line[64], b[4096];
    int own = must(open("/proc/self/status", O_RDONLY)), adj = must(open("/proc/self/oom_score_adj", O_RDWR));
    snprintf(path, sizeof path, "/proc/%d/comm", child);
    int other = must(open(path, O_RDONLY));
    int system = must(open("/proc/version", O_RDONLY)), sys = must(open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY));
    int folder = must(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) scenario_differs("no /proc/self/task");
    int entries = 0; for (int i = 0; i < 3; i++) entries += readdir(tasks) != NULL;         // ".", ".." and the first of two
    int mount = must(open("/proc/self/ns/mnt", O_RDONLY)), pidns = must(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
    must(read(own, b, 6)); same(6, lseek(own, 0, SEEK_CUR));
    must(read(system, b, 6));
    scenario_wait();
    same(6, lseek(own, 0, SEEK_CUR));
    int n = must(read(own, b, sizeof b - 1)); b[n] = 0;
    snprintf(line, sizeof line, "\nPid:\t%d\n", getpid());
    check(strstr(b, line));
    n = must(read(other, b, sizeof b - 1)); b[n] = 0;
    snprintf(line, sizeof line, "/proc/%d/comm", child);
    char link[64]; snprintf(path, sizeof path, "/proc/self/fd/%d", other);
    n = must(readlink(path, link, sizeof link - 1)); link[n] = 0; check(!strcmp(link, line));
    n = must(read(system, b, 8)); check(!memcmp(b, "version ", 8));
    check(read(sys, b, 1) == 1);
    must(write(adj, "5", 1));
    snprintf(path, sizeof path, "%d", own);
    check(faccessat(folder, path, F_OK, 0) == 0 || readlinkat(folder, path, b, sizeof b) > 0);
    while (readdir(tasks)) entries++;
    same(4, entries);
    struct stat a, s; must(fstat(mount, &a)); must(stat("/proc/self/ns/mnt", &s)); same(s.st_ino, a.st_ino);
    must(fstat(pidns, &a)); must(stat("/proc/self/ns/pid", &s)); same(s.st_ino, a.st_ino); same(FD_CLOEXEC, fcntl(pidns, F_GETFD));
    scenario_touch("checked");
    scenario_child(child, 0);
    return scenario_end();
}

// A child whose root is a tmpfs with parts of the system in it (pivot_root): as containers are; process 1 of a pid namespace, with a proc of its own, unless "alone".
// Its child has another root in that (chroot).
#include "namespaces-mounts.h"
static char base[600];
static void show(const char *path, unsigned long flags) {
    char to[900] = "";
    snprintf(to, sizeof to, "%s/root", base);
    for (const char *p = path; p; p = strchr(p + 1, '/')) { const char *end = strchr(p + 1, '/'); int n = end ? (int)(end - path) : (int)strlen(path); snprintf(to, sizeof to, "%s/root%.*s", base, n, path); mkdir(to, 0755); }
    must(mount(path, to, NULL, MS_BIND | MS_REC, NULL));
    if (flags) must(mount("none", to, NULL, MS_REMOUNT | MS_BIND | flags, NULL));
}
static void inside(int alone) {
    pid_t child = must(fork());
    if (!child) {
        must(chroot("/within"));
        must(chdir("/deep"));
        int fd = must(open("/file", O_CREAT | O_RDWR, 0600));
        must(write(fd, "chroot", 6));
        must(chdir("/")); must(chdir("deep"));
        // Signals, since it does not see the scenario's folder.
        sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR1); sigprocmask(SIG_BLOCK, &set, NULL);
        kill(getppid(), SIGUSR1);
        int got; sigwait(&set, &got);
        char where[100];
        check(getcwd(where, 100) && !strcmp(where, "/deep"));
        mounts_text_is("/file", "chroot");
        check(access("/within", F_OK) == -1);
        scenario_leave(5);
    }
    sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR1); int got;
    sigwait(&set, &got);
    mounts_read(&mounts_before);
    struct stat before, after;
    must(stat("/", &before));
    scenario_touch("child");
    scenario_await("go");
    mounts_same();
    must(stat("/", &after));
    same(before.st_mode, after.st_mode);
    check(access("/root", F_OK) == -1 && access("/usr/bin", F_OK) == 0 && open("/usr/x", O_CREAT | O_WRONLY, 0600) == -1);
    mounts_text_is("/etc/mine", "of the container");
    if (!alone) { char line[256]; same(1, getpid()); same(2, child); check(!strcmp(scenario_line("/proc/2/status", "PPid:", line, 256), "PPid:\t1")); }
    kill(child, SIGUSR1);
    scenario_child(child, 5);
    scenario_leave(3);
}
int main(int argc, char **argv) {
    int alone = argc > 1 && !strcmp(argv[1], "alone");
    sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR1); sigprocmask(SIG_BLOCK, &set, NULL);
    snprintf(base, sizeof base, "%s", scenario_path("base")); must(mkdir(base, 0755));
    pid_t child = must(fork());
    if (!child) {
        mounts_unshare(alone ? 0 : CLONE_NEWPID);
        pid_t first = alone ? 0 : must(fork());
        // It stays in the old root, which nobody else sees any more.
        if (first) { int status; waitpid(first, &status, 0); _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 95); }
        must(mount("base", base, "tmpfs", 0, "mode=0711"));
        must(mkdir(mounts_at(base, "root"), 0755));
        must(mkdir(mounts_at(base, "root/etc"), 0755)); mounts_write(mounts_at(base, "root/etc/mine"), "of the container");
        must(mkdir(mounts_at(base, "root/within"), 0755)); must(mkdir(mounts_at(base, "root/within/deep"), 0755)); must(mkdir(mounts_at(base, "root/old"), 0755)); must(mkdir(mounts_at(base, "root/proc"), 0555));
        must(mount(mounts_at(base, "root"), mounts_at(base, "root"), NULL, MS_BIND, NULL));
        show("/usr", MS_RDONLY); if (!access("/lib64", F_OK)) { must(symlink("usr/lib", mounts_at(base, "root/lib"))); must(symlink("usr/lib64", mounts_at(base, "root/lib64"))); }
        show(getenv("SCENARIO"), 0);
        if (alone) must(mount("/proc", mounts_at(base, "root/proc"), NULL, MS_BIND | MS_REC, NULL)); else must(mount("proc", mounts_at(base, "root/proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
        must(chdir(mounts_at(base, "root")));
        must(syscall(SYS_pivot_root, ".", "old"));
        must(chdir("/"));
        must(umount2("/old", MNT_DETACH));
        inside(alone);
    }
    scenario_await("child");
    scenario_wait();
    scenario_child(child, 3);
    return scenario_end();
}

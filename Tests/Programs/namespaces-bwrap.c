// As `bwrap` runs a program: another root, all namespaces of its own, a /dev, a /proc and a /tmp; the scenario's folders are bound into it.
#include "namespaces-mounts.h"
int main(int argc, char **argv) {
    char self[512], folder[512];
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    strcpy(folder, self);
    *strrchr(folder, '/') = 0;
    const char *place = getenv("SCENARIO"), *sessions = getenv("CKPT_DIR");
    if (argc == 1 && !sessions) sessions = "/dev/shm";
    if (argc == 1) execlp("bwrap", "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--unshare-all", "--hostname", "sandbox", "--ro-bind", folder, folder,
                          "--bind", place, place, "--bind", sessions, sessions, self, "inside", NULL);
    if (argc == 1) return 9;
    mounts_write("/tmp/mine", "in the sandbox");
    int memory = must(open("/tmp/mine", O_RDWR)), null = must(open("/dev/null", O_RDWR)), pid = getpid();
    char host[70];
    pid_t child = must(fork());
    if (!child) { scenario_touch("child"); scenario_await("go"); same(pid, getppid()); mounts_text_is("/tmp/mine", "in the sandbox"); scenario_leave(3); }
    scenario_await("child");
    mounts_read(&mounts_before);
    scenario_wait();
    mounts_same();
    same(pid, getpid());
    gethostname(host, 70); check(!strcmp(host, "sandbox"));
    same(14, lseek(memory, 0, SEEK_END)); same(1, write(null, "x", 1));
    mounts_text_is("/tmp/mine", "in the sandbox");
    check(open("/usr/mine", O_CREAT | O_WRONLY, 0600) == -1 && access("/dev/pts/ptmx", F_OK) == 0);
    scenario_child(child, 3);
    return scenario_end();
}

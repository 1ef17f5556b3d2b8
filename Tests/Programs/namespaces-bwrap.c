// As `bwrap` runs a program: another root, all namespaces of its own, a /dev, a /proc and a /tmp; the scenario's folders are bound into it.
// "bare": with nothing of the outer root but /usr; "bare-copy": its child has a copy of these mounts; "bare-named": with a socket that has a name, too.
#include "namespaces-mounts.h"
#include <sys/socket.h>
#include <sys/un.h>
// One with a name in the sandbox's own /tmp, or an abstract one.
static int listener(const char *name, int abstract, struct sockaddr_un *at) {
    *at = (struct sockaddr_un){ .sun_family = AF_UNIX };
    strcpy(at->sun_path + abstract, name);
    int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
    must(bind(fd, (void *)at, sizeof *at));
    must(listen(fd, 3));
    return fd;
}
static void reach(int fd, struct sockaddr_un *at) {
    int there = must(socket(AF_UNIX, SOCK_STREAM, 0)), here;
    char c = 0;
    check(connect(there, (void *)at, sizeof *at) == 0);
    here = accept(fd, NULL, NULL);
    check(here >= 0 && write(there, "x", 1) == 1 && read(here, &c, 1) == 1 && c == 'x');
}
static int peer(int fd) { struct ucred u; socklen_t n = sizeof u; must(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n)); return u.pid; }
int main(int argc, char **argv) {
    char self[512], folder[512];
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    strcpy(folder, self);
    *strrchr(folder, '/') = 0;
    const char *place = getenv("SCENARIO"), *sessions = getenv("CKPT_DIR");
    const char *kind = argc > 2 ? argv[2] : argc > 1 ? argv[1] : "";
    int isBare = !strncmp(kind, "bare", 4), isInside = argc > 1 && !strcmp(argv[1], "inside"), isNamed = !isBare || !strcmp(kind, "bare-named");
    if (!isInside && !sessions) sessions = "/dev/shm";
    if (!isInside && isBare) {
        execlp("bwrap", "bwrap", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
               "--unshare-all", "--cap-add", "ALL", "--hostname", "sandbox", "--ro-bind", folder, folder, "--bind", place, place, "--bind", sessions, sessions, self, "inside", kind, NULL);
        return 9;
    }
    if (!isInside) execlp("bwrap", "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--unshare-all", "--hostname", "sandbox", "--ro-bind", folder, folder,
                          "--bind", place, place, "--bind", sessions, sessions, self, "inside", NULL);
    if (!isInside) return 9;
    mounts_write("/tmp/mine", "in the sandbox");
    int memory = must(open("/tmp/mine", O_RDWR)), null = must(open("/dev/null", O_RDWR)), pid = getpid();
    char host[70];
    struct sockaddr_un named, abstract;
    int sockets[] = { isNamed ? listener("/tmp/name", 0, &named) : -1, listener("ckpt-sandbox", 1, &abstract) };
    // Connected, with something unread, and one that nobody has accepted yet.
    int ends[3] = { -1, -1, -1 };
    char got[8] = "";
    if (isNamed) {
        for (int i = 0; i < 3; i += 2) { ends[i] = must(socket(AF_UNIX, SOCK_STREAM, 0)); must(connect(ends[i], (void *)&named, sizeof named)); if (i == 0) ends[1] = must(accept(sockets[0], NULL, NULL)); }
        must(write(ends[1], "unread", 6));
    }
    pid_t child = must(fork());
    if (!child && !strcmp(kind, "bare-copy")) must(unshare(CLONE_NEWNS));
    if (!child) { scenario_touch("child"); scenario_await("go"); same(pid, getppid()); mounts_text_is("/tmp/mine", "in the sandbox"); scenario_leave(3); }
    scenario_await("child");
    mounts_sorted = isBare;
    mounts_read(&mounts_before);
    scenario_wait();
    mounts_same();
    same(pid, getpid());
    gethostname(host, 70); check(!strcmp(host, "sandbox"));
    same(14, lseek(memory, 0, SEEK_END)); same(1, write(null, "x", 1));
    mounts_text_is("/tmp/mine", "in the sandbox");
    check(open("/usr/mine", O_CREAT | O_WRONLY, 0600) == -1 && access("/dev/pts/ptmx", F_OK) == 0);
    if (isNamed) {
        for (int i = 0; i < 3; i++) same(pid, peer(ends[i]));
        same(6, read(ends[0], got, 8)); check(!strcmp(got, "unread"));
        must(write(ends[2], "w", 1)); int waited = must(accept(sockets[0], NULL, NULL)); same(pid, peer(waited)); same(1, read(waited, got, 1));
        reach(sockets[0], &named);
    }
    reach(sockets[1], &abstract);
    scenario_child(child, 3);
    return scenario_end();
}

// Sockets whose files are elsewhere than where they were bound: moved when they listened, or bound by a relative name from another working folder.
// "far": not near either.
#include "scenario.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
static struct sockaddr_un a;
static socklen_t name(const char *path) { memset(&a, 0, sizeof a); a.sun_family = AF_UNIX; strcpy(a.sun_path, path); return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1; }
static int bound(const char *path, int type, const char *moved) {
    int fd = must(socket(AF_UNIX, type, 0)); socklen_t n = name(path);
    must(bind(fd, (void *)&a, n));
    if (type != SOCK_DGRAM) must(listen(fd, 5));
    if (moved) must(rename(path, moved));
    return fd;
}
static int client(const char *path, int type) { int fd = must(socket(AF_UNIX, type, 0)); socklen_t n = name(path); if (connect(fd, (void *)&a, n)) scenario_differs("connect to %s: %s", path, strerror(errno)); return fd; }
static void named(int fd, int peer, const char *path) {
    struct sockaddr_un b = { 0 }; socklen_t n = sizeof b, m = name(path);
    must(peer ? getpeername(fd, (void *)&b, &n) : getsockname(fd, (void *)&b, &n));
    same(m, n); if (memcmp(&a, &b, m)) scenario_differs("%s: name '%s'", path, b.sun_path);
}
static void served(int listener, const char *path) {
    int c = client(path, SOCK_STREAM), s = must(accept(listener, NULL, NULL)); char got = 0;
    must(write(c, "x", 1)); same(1, read(s, &got, 1)); close(c); close(s);
}
int main(int argc, char **argv) {
    int far = argc > 1;
    char temporary[200], path[2][200], gram[200], got[10] = "";
    snprintf(temporary, sizeof temporary, "%s", scenario_path("temporary"));
    mkdir(scenario_path("a"), 0700); mkdir(scenario_path("a/b"), 0700); mkdir(scenario_path("a/b/c"), 0700);
    for (int i = 0; i < 2; i++) snprintf(path[i], 200, "%s", scenario_path(far ? i ? "a/b/c/second" : "a/b/first" : i ? "a/second" : "first"));
    snprintf(gram, sizeof gram, "%s", scenario_path("a/gram"));
    int l[2]; for (int i = 0; i < 2; i++) l[i] = bound(temporary, SOCK_STREAM, path[i]);
    must(chmod(path[0], 0640));
    int c = client(path[0], SOCK_STREAM), s = must(accept(l[0], NULL, NULL)), waiting = client(path[0], SOCK_STREAM);
    int d = bound(temporary, SOCK_DGRAM, gram), sender = client(gram, SOCK_DGRAM);
    must(write(sender, "before", 6));
    char start[400]; must(getcwd(start, sizeof start) != NULL);
    must(chdir(scenario_path(far ? "a/b/c" : "a")));
    int r = bound("relative", SOCK_STREAM, NULL), m = bound("short", SOCK_STREAM, "longer");
    // By names with folders in them; a symbolic link, a folder and another socket take names that were left.
    int up = bound(far ? "../c/up" : "../a/up", SOCK_STREAM, NULL), dot = bound("./dot", SOCK_STREAM, NULL);
    int link = bound("link", SOCK_STREAM, "linked"); must(symlink("linked", "link"));
    int taken = bound("taken", SOCK_STREAM, "moved"); must(mkdir("taken", 0700));
    // A server that another has replaced, with a client still; two that have changed places.
    int old = bound("server", SOCK_STREAM, NULL), kept = client("server", SOCK_STREAM), still = must(accept(old, NULL, NULL)), now = bound("server.new", SOCK_STREAM, "server");
    close(old);
    int x = bound("x", SOCK_STREAM, NULL), y = bound("y", SOCK_STREAM, NULL); must(rename("x", "z")); must(rename("y", "x")); must(rename("z", "y"));
    must(chdir(start)); must(chdir(scenario_path(".")));
    scenario_wait();
    same(-1, access(temporary, F_OK));
    struct stat st; must(stat(path[0], &st)); same(0640, st.st_mode & 07777); same(geteuid(), st.st_uid); same(getegid(), st.st_gid);
    for (int i = 0; i < 2; i++) named(l[i], 0, temporary);
    named(s, 0, temporary); named(c, 1, temporary); named(r, 0, "relative"); named(m, 0, "short"); named(d, 0, temporary); named(sender, 1, temporary);
    must(write(c, "up", 2)); same(2, read(s, got, 9));
    must(write(waiting, "w", 1)); int w = must(accept(l[0], NULL, NULL)); same(1, read(w, got, 9));
    for (int i = 0; i < 2; i++) served(l[i], path[i]);
    served(r, far ? "a/b/c/relative" : "a/relative"); served(m, far ? "a/b/c/longer" : "a/longer");
    must(chdir(far ? "a/b/c" : "a"));
    served(up, "up"); served(dot, "dot"); served(link, "linked"); served(link, "link"); served(taken, "moved"); served(now, "server"); served(x, "y"); served(y, "x");
    named(up, 0, far ? "../c/up" : "../a/up"); named(taken, 0, "taken"); named(now, 0, "server.new"); named(still, 0, "server"); named(x, 0, "x");
    must(stat("taken", &st)); check(S_ISDIR(st.st_mode)); must(lstat("link", &st)); check(S_ISLNK(st.st_mode));
    must(write(kept, "k", 1)); same(1, read(still, got, 9));
    same(6, read(d, got, 9)); must(write(sender, "after", 5)); same(5, read(d, got, 9));
    must(write(client(gram, SOCK_DGRAM), "new", 3)); same(3, read(d, got, 9));
    return scenario_end();
}

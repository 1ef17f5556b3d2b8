// Sockets whose files were removed, with connections: accepted and waiting, of a listener that is there or gone; the name is free, a newer socket's, or a file's.
#include "scenario.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
static struct sockaddr_un a;
static socklen_t name(const char *path) { memset(&a, 0, sizeof a); a.sun_family = AF_UNIX; strcpy(a.sun_path, path); return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1; }
static int bound(const char *path, int type) {
    int fd = must(socket(AF_UNIX, type, 0)); socklen_t n = name(path);
    must(bind(fd, (void *)&a, n));
    if (type != SOCK_DGRAM) must(listen(fd, 5));
    return fd;
}
static int client(const char *path, int type) { int fd = must(socket(AF_UNIX, type, 0)); socklen_t n = name(path); must(connect(fd, (void *)&a, n)); return fd; }
static void named(int fd, const char *path) {
    struct sockaddr_un b = { 0 }; socklen_t n = sizeof b, m = name(path);
    must(getsockname(fd, (void *)&b, &n));
    same(m, n); if (memcmp(&a, &b, m)) scenario_differs("name '%s', was '%s'", b.sun_path, path);
}
static void through(int from, int to, const char *word) { char got[10] = ""; same(2, write(from, word, 2)); same(2, read(to, got, 9)); same(0, strcmp(word, got)); }
int main(int argc, char **argv) {
    const char *then = argc > 1 ? argv[1] : "free";
    char path[4][200]; const char *names[4] = { "listening", "closed", "gram", "place" };
    for (int i = 0; i < 4; i++) snprintf(path[i], 200, "%s", scenario_path(names[i]));
    int l = bound(path[0], SOCK_STREAM), c = client(path[0], SOCK_STREAM), s = must(accept(l, NULL, NULL)), waiting = client(path[0], SOCK_STREAM);
    int old = bound(path[1], SOCK_STREAM), kept = client(path[1], SOCK_STREAM), still = must(accept(old, NULL, NULL)); close(old);
    int d = bound(path[2], SOCK_DGRAM), sender = client(path[2], SOCK_DGRAM); must(write(sender, "be", 2));
    int newer[3];
    for (int i = 0; i < 3; i++) {
        must(unlink(path[i]));
        if (!strcmp(then, "socket")) newer[i] = bound(path[i], i == 2 ? SOCK_DGRAM : SOCK_STREAM);
        if (!strcmp(then, "file")) { int f = must(open(path[i], O_CREAT | O_EXCL | O_RDWR, 0600)); must(write(f, "kept", 4)); close(f); }
        if (!strcmp(then, "folder")) must(mkdir(path[i], 0700));
    }
    scenario_wait();
    named(l, path[0]); named(s, path[0]); named(still, path[1]); named(d, path[2]);
    through(c, s, "up"); through(s, c, "dn"); through(kept, still, "ks");
    int w = must(accept(l, NULL, NULL)); through(waiting, w, "wt"); named(w, path[0]);
    char got[10] = ""; same(2, read(d, got, 9)); same(0, strcmp("be", got)); through(sender, d, "dg");
    for (int i = 0; i < 3; i++) {
        struct stat st;
        if (!strcmp(then, "free")) { same(-1, lstat(path[i], &st)); same(ENOENT, errno); continue; }
        must(lstat(path[i], &st));
        if (!strcmp(then, "file")) { same(S_IFREG, st.st_mode & S_IFMT); same(4, st.st_size); }
        if (!strcmp(then, "folder")) same(S_IFDIR, st.st_mode & S_IFMT);
        if (!strcmp(then, "socket")) { int n = client(path[i], i == 2 ? SOCK_DGRAM : SOCK_STREAM), t = i == 2 ? newer[i] : must(accept(newer[i], NULL, NULL)); through(n, t, "nw"); }
    }
    return scenario_end();
}

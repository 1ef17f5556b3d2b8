// Listening sockets with path, relative and abstract names; accepted connections, also of clients with names; connections not yet accepted in their order; autobind;
// sockets that are not connected.
#include "scenario.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
static struct sockaddr_un a;
static socklen_t name(const char *path, int abstract) {
    memset(&a, 0, sizeof a); a.sun_family = AF_UNIX;
    snprintf(a.sun_path + abstract, sizeof a.sun_path - 1, "%s", path);
    return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}
static int listener(const char *path, int abstract, int type) {
    int fd = must(socket(AF_UNIX, type, 0)); socklen_t n = name(path, abstract);
    must(bind(fd, (void *)&a, n)); must(listen(fd, 5));
    return fd;
}
static int client(const char *path, int abstract, int type) { int fd = must(socket(AF_UNIX, type, 0)); socklen_t n = name(path, abstract); must(connect(fd, (void *)&a, n)); return fd; }
static void named(int fd, int peer, const char *path, int abstract) {
    struct sockaddr_un b = { 0 }; socklen_t n = sizeof b, m = name(path, abstract);
    must(peer ? getpeername(fd, (void *)&b, &n) : getsockname(fd, (void *)&b, &n));
    same(m, n); if (memcmp(&a, &b, m)) scenario_differs("%s: name '%s'", path, b.sun_path + abstract);
}
int main(void) {
    char path[200], abstract[100], got[100]; snprintf(path, sizeof path, "%s", scenario_path("listen")); snprintf(abstract, sizeof abstract, "ckpt-names-%d", getpid());
    must(chdir(scenario_path(".")));
    int l = listener(path, 0, SOCK_STREAM), r = listener("relative", 0, SOCK_SEQPACKET), x = listener(abstract, 1, SOCK_STREAM), gone = listener("gone", 0, SOCK_STREAM);
    chmod(path, 0640);
    int c = client(path, 0, SOCK_STREAM), s = must(accept(l, NULL, NULL));
    int gc = client("gone", 0, SOCK_STREAM), gs = must(accept(gone, NULL, NULL)); close(gone); unlink("gone");
    char folder[200], deep[200]; snprintf(folder, sizeof folder, "%s", scenario_path("folder")); snprintf(deep, sizeof deep, "%s/deep", folder); must(mkdir(folder, 0700)); must(mkdir(deep, 0700));
    char away[220]; snprintf(away, sizeof away, "%s/away", deep); int l2 = listener(away, 0, SOCK_STREAM), fc = client(away, 0, SOCK_STREAM), fs = must(accept(l2, NULL, NULL));
    close(l2); unlink(away); rmdir(deep); rmdir(folder);
    int cn = must(socket(AF_UNIX, SOCK_STREAM, 0)); socklen_t n = name("client", 0); must(bind(cn, (void *)&a, n)); n = name(abstract, 1); must(connect(cn, (void *)&a, n));
    int sn = must(accept(x, NULL, NULL));
    int w[3]; for (int i = 0; i < 3; i++) w[i] = client("relative", 0, SOCK_SEQPACKET);
    int bound = must(socket(AF_UNIX, SOCK_DGRAM, 0)); struct sockaddr_un none = { AF_UNIX }, autobind; must(bind(bound, (void *)&none, 2)); n = sizeof autobind; must(getsockname(bound, (void *)&autobind, &n));
    int later[3] = { must(socket(AF_UNIX, SOCK_STREAM, 0)), must(socket(AF_UNIX, SOCK_STREAM, 0)), must(socket(AF_UNIX, SOCK_SEQPACKET, 0)) };
    n = name("nobody listens", 0); same(-1, connect(later[0], (void *)&a, n)); n = name("later", 0); must(bind(later[1], (void *)&a, n));
    write(c, "to server", 9); write(gs, "to client", 9);
    pid_t me = getpid();
    scenario_wait();
    named(l, 0, path, 0); named(r, 0, "relative", 0); named(x, 0, abstract, 1); named(s, 0, path, 0); named(c, 1, path, 0); named(gc, 1, "gone", 0); named(gs, 0, "gone", 0);
    named(sn, 1, "client", 0); named(cn, 0, "client", 0); named(cn, 1, abstract, 1);
    named(fc, 1, away, 0); named(fs, 0, away, 0); same(-1, access(folder, F_OK));
    same(-1, access("gone", F_OK)); struct stat st; must(stat(path, &st)); same(0640, st.st_mode & 07777); check(S_ISSOCK(st.st_mode)); same(geteuid(), st.st_uid);
    same(9, read(s, got, 100)); check(!memcmp(got, "to server", 9)); same(9, read(gc, got, 100)); check(!memcmp(got, "to client", 9));
    write(s, "x", 1); same(1, read(c, got, 9)); write(cn, "yy", 2); same(2, read(sn, got, 9));
    for (int i = 0; i < 3; i++) { got[0] = '0' + i; same(1, send(w[i], got, 1, 0)); }
    for (int i = 0; i < 3; i++) { int q = must(accept(r, NULL, NULL)); same(1, recv(q, got, 9, 0)); same('0' + i, got[0]); struct ucred u; n = sizeof u; must(getsockopt(q, SOL_SOCKET, SO_PEERCRED, &u, &n)); same(me, u.pid); }
    fcntl(r, F_SETFL, O_NONBLOCK); same(-1, accept(r, NULL, NULL)); same(EAGAIN, errno);
    struct sockaddr_un again; socklen_t m = sizeof again; must(getsockname(bound, (void *)&again, &m)); same(sizeof(sa_family_t) + 6, m); check(!memcmp(&autobind, &again, m));
    int late = client(path, 0, SOCK_STREAM), served = must(accept(l, NULL, NULL)); write(late, "z", 1); same(1, read(served, got, 9));
    n = name(path, 0); must(connect(later[0], (void *)&a, n)); served = must(accept(l, NULL, NULL)); write(later[0], "q", 1); same(1, read(served, got, 9));
    named(later[1], 0, "later", 0); must(listen(later[1], 2)); client("later", 0, SOCK_STREAM); must(accept(later[1], NULL, NULL));
    n = name("relative", 0); must(connect(later[2], (void *)&a, n)); served = must(accept(r, NULL, NULL)); write(later[2], "q", 1); same(1, read(served, got, 9));
    struct ucred u; n = sizeof u; must(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &u, &n)); same(me, u.pid); same(geteuid(), u.uid);
    return scenario_end();
}

// A child in mounts of its own has Unix sockets with names there: in a tmpfs, behind an absolute link, relative; connected, with datagrams unread, with no name any
// more; and a FIFO in a folder that both see, of which its parent has the other end.
#include "namespaces-mounts.h"
#include <sys/socket.h>
#include <sys/un.h>
static char memory[600], shared[600];
static int named(int type, const char *path, int listens) {
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int s = must(socket(AF_UNIX, type, 0));
    must(bind(s, (void *)&a, sizeof a));
    if (listens) must(listen(s, 4));
    return s;
}
static int to(int type, const char *path) {
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int s = must(socket(AF_UNIX, type, 0));
    must(connect(s, (void *)&a, sizeof a));
    return s;
}
static void name_is(int s, const char *wanted) {
    struct sockaddr_un a; socklen_t n = sizeof a;
    must(getsockname(s, (void *)&a, &n));
    if (strcmp(a.sun_path, wanted)) scenario_differs("name %s, not %s", a.sun_path, wanted);
}
static int accepted(int l) { return must(accept(l, NULL, NULL)); }
static void says(int from, int at, const char *text) { char got[64] = ""; must(write(from, text, strlen(text))); must(read(at, got, 63)); if (strcmp(got, text)) scenario_differs("got %s, not %s", got, text); }
// Who connects now is accepted.
static void finds(int type, const char *path, int l, const char *text) { int c = to(type, path); says(c, accepted(l), text); }
int main(void) {
    // Names of sockets are short.
    snprintf(memory, sizeof memory, "/tmp/ckpt-m-%d", getpid()); must(mkdir(memory, 0700));
    snprintf(shared, sizeof shared, "%s", scenario_path("fifo")); must(mkfifo(shared, 0600));
    pid_t child = must(fork());
    if (!child) {
        char absolute[700], link[700], loose[700], letters[700], gone[700];
        snprintf(absolute, 700, "%s/listens", memory); snprintf(link, 700, "%s/link/behind", memory); snprintf(loose, 700, "loose"); snprintf(letters, 700, "%s/letters", memory); snprintf(gone, 700, "%s/gone", memory);
        mounts_unshare(0);
        must(mount("memory", memory, "tmpfs", 0, "size=1m"));
        must(mkdir(mounts_at(memory, "target"), 0700)); must(symlink(mounts_at(memory, "target"), mounts_at(memory, "link")));
        must(chdir(memory));
        int l = named(SOCK_STREAM, absolute, 1), c = to(SOCK_STREAM, absolute), s = must(accept(l, NULL, NULL)), waiting = to(SOCK_STREAM, absolute);
        int b = named(SOCK_SEQPACKET, link, 1), r = named(SOCK_STREAM, loose, 1), d = named(SOCK_DGRAM, letters, 0), w = to(SOCK_DGRAM, letters), g = named(SOCK_STREAM, gone, 1);
        must(unlink(gone));
        must(write(w, "a letter", 8));
        int f = must(open(shared, O_RDONLY));
        scenario_touch("child");
        scenario_await("go");
        says(c, s, "back and forth"); says(s, c, "forth");
        name_is(l, absolute); name_is(b, link); name_is(r, loose); name_is(d, letters); name_is(g, gone);
        says(waiting, accepted(l), "accepted late");
        finds(SOCK_STREAM, absolute, l, "found again");
        finds(SOCK_SEQPACKET, link, b, "found behind a link");
        finds(SOCK_STREAM, loose, r, "found from here");
        char got[64] = ""; same(8, read(d, got, 63)); check(!strcmp(got, "a letter"));
        says(w, d, "another letter"); says(to(SOCK_DGRAM, letters), d, "a third");
        memset(got, 0, 64); same(6, read(f, got, 6)); check(!strcmp(got, "inside"));
        scenario_leave(3);
    }
    int f = must(open(shared, O_WRONLY));
    scenario_await("child");
    must(write(f, "inside", 6));
    scenario_wait();
    check(access(mounts_at(memory, "listens"), F_OK) == -1);
    scenario_child(child, 3);
    rmdir(memory);
    return scenario_end();
}

// Datagrams with their sources, also of senders that are gone; a socket connected one way; a full queue whose blocked writer goes on.
#include "scenario.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
static struct sockaddr_un a;
static socklen_t name(const char *what) { memset(&a, 0, sizeof a); a.sun_family = AF_UNIX; snprintf(a.sun_path + 1, 100, "ckpt-%s-%d", what, getpid()); return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a.sun_path + 1); }
static int bound(const char *what) { int fd = must(socket(AF_UNIX, SOCK_DGRAM, 0)); socklen_t n = name(what); must(bind(fd, (void *)&a, n)); return fd; }
static void sendTo(int fd, const char *what, const char *text) { socklen_t n = name(what); must(sendto(fd, text, strlen(text), 0, (void *)&a, n)); }
static void take(int fd, const char *text, const char *from) {
    char got[100] = ""; struct sockaddr_un b = { 0 }; socklen_t n = sizeof b, m = from ? name(from) : 0;
    same(strlen(text), recvfrom(fd, got, 99, MSG_DONTWAIT, (void *)&b, &n)); check(!strcmp(text, got)); same(m, n); if (from && memcmp(&a, &b, m)) scenario_differs("from '%s'", b.sun_path + 1);
}
static int full[2];
static void *writer(void *x) { char block[4096]; memset(block, 7, sizeof block); for (int i = 0; i < 400; i++) if (write(full[0], block, 4096) != 4096) scenario_differs("write %d: %s", i, strerror(errno)); shutdown(full[0], SHUT_WR); return x; }
int main(void) {
    int r = bound("receiver"), s = bound("sender"), g = bound("gone"), nameless = must(socket(AF_UNIX, SOCK_DGRAM, 0)), one = must(socket(AF_UNIX, SOCK_DGRAM, 0));
    sendTo(s, "receiver", "from sender"); sendTo(g, "receiver", "from gone"); sendTo(nameless, "receiver", "from nobody"); close(g); close(nameless);
    socklen_t n = name("receiver"); must(connect(one, (void *)&a, n)); must(send(one, "one way", 7, 0)); sendTo(s, "receiver", "");
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, full));
    pthread_t t; must0(pthread_create(&t, NULL, writer, NULL)); usleep(100000);
    scenario_wait();
    take(r, "from sender", "sender"); take(r, "from gone", "gone"); take(r, "from nobody", NULL); take(r, "one way", NULL); take(r, "", "sender");
    must(send(one, "again", 5, 0)); take(r, "again", NULL);
    char got[5000]; long total = 0, k; while ((k = read(full[1], got, sizeof got)) > 0) { for (int i = 0; i < k; i++) if (got[i] != 7) { scenario_differs("byte %ld", total + i); break; } total += k; }
    same(400 * 4096, total);
    pthread_join(t, NULL);
    return scenario_end();
}

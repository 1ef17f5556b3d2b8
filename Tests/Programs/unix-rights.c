// Descriptors in flight (SCM_RIGHTS): a file, a pipe's end that nobody else has, a socket in a socket with what is queued in it, in a stream between plain bytes.
#include "scenario.h"
#include <sys/socket.h>
static void sendFd(int to, int fd, const char *text, int credentials) {
    struct { struct cmsghdr h; int fd; int pad; } c = { { CMSG_LEN(4), SOL_SOCKET, SCM_RIGHTS }, fd };
    struct iovec v = { (void *)text, strlen(text) };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = fd < 0 ? NULL : &c, .msg_controllen = fd < 0 ? 0 : sizeof c };
    must(sendmsg(to, &m, 0));
}
static int receive(int from, const char *text, int limit) {
    char got[100] = "", control[256] = "";
    struct iovec v = { got, limit };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    same(strlen(text), recvmsg(from, &m, MSG_DONTWAIT));
    if (strcmp(text, got)) scenario_differs("got '%s', not '%s'", got, text);
    int fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(c), 4);
    }
    return fd;
}
int main(void) {
    int s[2], inner[2], packets[2], p[2];
    char got[100];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, s)); must(socketpair(AF_UNIX, SOCK_STREAM, 0, inner)); must(socketpair(AF_UNIX, SOCK_DGRAM, 0, packets)); must(pipe(p));
    int file = must(open(scenario_path("data"), O_RDWR | O_CREAT, 0600));
    write(file, "0123456789", 10); lseek(file, 4, SEEK_SET);
    write(s[0], "plain", 5); sendFd(s[0], file, "file", 0); write(s[0], "after", 5); close(file);
    write(p[1], "in the pipe", 11); sendFd(packets[0], p[0], "reader", 0); close(p[0]);
    write(inner[1], "inside", 6); sendFd(packets[0], inner[0], "socket", 0); close(inner[0]);
    sendFd(inner[1], packets[1], "cycle", 0);
    scenario_wait();
    same(-1, receive(s[1], "plain", 5));
    file = receive(s[1], "fi", 2);
    check(file >= 0); same(6, read(file, got, 100)); check(!memcmp(got, "456789", 6));
    same(-1, receive(s[1], "le", 2));
    same(-1, receive(s[1], "after", 99));
    p[0] = receive(packets[1], "reader", 99);
    same(11, read(p[0], got, 100)); close(p[1]); same(0, read(p[0], got, 100));
    inner[0] = receive(packets[1], "socket", 99);
    same(-1, receive(inner[0], "inside", 6));
    check(receive(inner[0], "cycle", 99) >= 0);
    write(inner[0], "back", 4); same(4, read(inner[1], got, 100));
    return scenario_end();
}

// Unread messages that show who sent them (SCM_CREDENTIALS): a child that has ended, and the program itself.
#include "scenario.h"
#include <sys/socket.h>
static void take(int from, const char *text, pid_t pid) {
    char got[100] = "", control[256] = "";
    struct iovec v = { got, 99 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    same(strlen(text), recvmsg(from, &m, MSG_DONTWAIT));
    check(!strcmp(text, got));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_type != SCM_CREDENTIALS) { scenario_differs("%s: no credentials", text); return; }
    struct ucred *u = (void *)CMSG_DATA(c);
    same(pid, u->pid); same(getuid(), u->uid); same(getgid(), u->gid);
}
int main(void) {
    int pass[2], on = 1;
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pass));
    must(setsockopt(pass[1], SOL_SOCKET, SO_PASSCRED, &on, 4));
    pid_t child = must(fork());
    if (!child) { write(pass[0], "child", 5); _exit(0); }
    scenario_child(child, 0);
    write(pass[0], "parent", 6);
    scenario_wait();
    take(pass[1], "child", child);
    take(pass[1], "parent", getpid());
    return scenario_end();
}

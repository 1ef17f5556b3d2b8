// A machine on which each task may choose whether stores are bypassed: answers prctl(PR_GET_SPECULATION_CTRL) and PR_SET_SPECULATION_CTRL of what it executes
// in the kernel's place (seccomp_unotify(2)), and writes down what is set.  Usage: speculation-machine LOG PROGRAM …
#include "scenario.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
enum { TASKS = 64, PER_TASK = 1, ENABLED = 2 };
static struct { uint32_t tid; int state; } tasks[TASKS];
static int *state_of(uint32_t tid) {
    for (int i = 0; i < TASKS; i++) {
        if (!tasks[i].tid) { tasks[i].tid = tid; tasks[i].state = ENABLED; }
        if (tasks[i].tid == tid) return &tasks[i].state;
    }
    _exit(96);
}
static int listener(void) {
    const unsigned number = offsetof(struct seccomp_data, nr), option = offsetof(struct seccomp_data, args[0]), kind = offsetof(struct seccomp_data, args[1]);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, option), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 52, 0, 3), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 53, 2, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kind), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    struct sock_fprog filter = { sizeof code / sizeof code[0], code };
    return must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter));
}
int main(int argc, char **argv) {
    int ends[2]; must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    pid_t child = must(fork());
    if (!child) {
        int fd = listener();            // a new descriptor of ours; who answers takes it from us
        char answer; must(write(ends[1], &fd, sizeof fd)); must(read(ends[1], &answer, 1));
        execv(argv[2], argv + 2); _exit(97);
    }
    int theirs; must(read(ends[0], &theirs, sizeof theirs));
    int pidfd = must(syscall(SYS_pidfd_open, child, 0)), fd = must(syscall(SYS_pidfd_getfd, pidfd, theirs, 0)), log = must(open(argv[1], O_CREAT | O_WRONLY | O_APPEND, 0600));
    must(write(ends[0], &theirs, 1));
    struct pollfd p = { fd, POLLIN, 0 };
    while (poll(&p, 1, 60000) == 1 && !(p.revents & POLLHUP)) {
        struct seccomp_notif n = { 0 };
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &n)) continue;
        struct seccomp_notif_resp r = { n.id, PER_TASK | *state_of(n.pid), 0, 0 };
        if (n.data.args[0] == 53) { *state_of(n.pid) = n.data.args[2]; dprintf(log, "%llu ", n.data.args[2]); r.val = 0; }
        ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r);
    }
    int status; must(waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

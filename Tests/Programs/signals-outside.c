// Real-time signals that come from outside, before each checkpoint and during it: all arrive, in their order.
// "send PID FROM TO" sends; "without-ptrace PROGRAM..." executes what may attach to nobody.
#include "scenario.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
static int send_some(pid_t pid, int from, int to) {
    for (int i = from; i < to && !scenario_exists("enough"); i++) { union sigval v = { .sival_int = i }; must(sigqueue(pid, SIGRTMIN + 1, v)); }
    scenario_touch("sent");
    return 0;
}
static int without_ptrace(char **argv) {
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    struct sock_fprog program = { 4, f };
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
    execv(argv[0], argv);
    return 97;
}
int main(int argc, char **argv) {
    if (argc > 4 && !strcmp(argv[1], "send")) return send_some(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    if (argc > 2) return without_ptrace(argv + 2);
    int next = 0;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    scenario_wait();
    siginfo_t info;
    struct timespec none = { 0 };
    while (!scenario_exists("sent")) usleep(1000);
    while (sigtimedwait(&set, &info, &none) > 0) if (info.si_value.sival_int == next) next++; else { printf("%d came for %d\n", info.si_value.sival_int, next); return 1; }
    check(next > 100);
    return scenario_end();
}

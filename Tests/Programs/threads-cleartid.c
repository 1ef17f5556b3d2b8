// clear_child_tid: a raw thread's futex word is cleared and woken when it ends; argument-less threads of glibc are joined the same way.
#include "scenario.h"
#include <linux/futex.h>
static volatile int flag, up;
static volatile pid_t word;
static int body(void *unused) {
    (void)unused;
    up = 1;
    while (!flag) __builtin_ia32_pause();
    syscall(SYS_exit, 0);
    return 0;
}
int main(void) {
    char *stack = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
    static char tls[4096] __attribute__((aligned(64)));
    *(void **)(tls + 2048) = tls + 2048;                // a thread block of its own, so that it may be interrupted
    int tid = must(clone(body, stack + 65536, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS
        | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID, NULL, &word, tls + 2048, &word));
    while (!up) usleep(1000);
    same(tid, word);
    scenario_wait();
    same(tid, word);
    same(0, syscall(SYS_tgkill, getpid(), tid, 0));
    flag = 1;
    struct timespec limit = { 5, 0 };
    int value;
    while ((value = word)) if (syscall(SYS_futex, &word, FUTEX_WAIT, value, &limit, NULL, 0) < 0 && errno == ETIMEDOUT) break;
    same(0, word);
    return scenario_end();
}

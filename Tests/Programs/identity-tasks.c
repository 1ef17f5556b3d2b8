// Threads that have changed their own credentials by system calls: ids of all four kinds, groups, capabilities, securebits, no_new_privs.
#include "scenario.h"
#include <linux/capability.h>
#include <linux/securebits.h>
enum { PLAIN, IDS, FILES, GROUPS, CAPABILITIES, BOUNDING, AMBIENT, BITS, KEEP, NO_NEW, KINDS };
static volatile int set, checked;
struct identity { char lines[12][256]; int securebits; };
static void take(struct identity *i) {
    const char *keys[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:" };
    memset(i, 0, sizeof *i);
    for (int k = 0; k < 9; k++) scenario_line("/proc/thread-self/status", keys[k], i->lines[k], 256);
    i->securebits = prctl(PR_GET_SECUREBITS);
}
static void capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct c[2] = { { effective, permitted, inheritable }, { effective >> 32, permitted >> 32, inheritable >> 32 } };
    must(syscall(SYS_capset, &h, c));
}
static void change(int kind) {
    int groups[] = { 9, 4001, 4002 };
    uint64_t some = 1ull << CAP_CHOWN | 1ull << CAP_KILL | 1ull << CAP_SETPCAP;
    switch (kind) {
    case IDS: must(syscall(SYS_setresgid, 1201, 1202, 1203)); must(syscall(SYS_setresuid, 1301, 1302, 0)); break;
    case FILES: syscall(SYS_setfsgid, 1205); syscall(SYS_setfsuid, 1305); break;
    case GROUPS: must(syscall(SYS_setgroups, 3, groups)); break;
    case CAPABILITIES: capabilities(1 << CAP_KILL, some, 1 << CAP_CHOWN); break;
    case BOUNDING: must(prctl(PR_CAPBSET_DROP, CAP_NET_RAW)); must(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME)); break;
    case AMBIENT:
        must(prctl(PR_SET_KEEPCAPS, 1));
        must(syscall(SYS_setresuid, 1306, 1306, 1306));
        capabilities(some, some, some);
        must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
        break;
    case BITS: must(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP)); must(syscall(SYS_setresuid, 1307, 1307, 1307)); break;
    case KEEP: must(prctl(PR_SET_KEEPCAPS, 1)); break;
    case NO_NEW: must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); break;
    }
}
static void *thread(void *x) {
    struct identity before, after;
    change((int)(long)x);
    take(&before);
    __atomic_add_fetch(&set, 1, __ATOMIC_SEQ_CST);
    while (!scenario_exists("go") && set < 100) usleep(5000);
    take(&after);
    for (int k = 0; k < 9; k++) if (strcmp(before.lines[k], after.lines[k])) scenario_differs("thread %d: %s, was %s", (int)(long)x, after.lines[k], before.lines[k]);
    same(before.securebits, after.securebits);
    __atomic_add_fetch(&checked, 1, __ATOMIC_SEQ_CST);
    return NULL;
}
int main(void) {
    struct identity before, after;
    pthread_t threads[KINDS];
    int kinds = 0;
    take(&before);
    chmod(scenario_path("."), 0777);
    for (long k = 0; k < KINDS; k++) if (!geteuid() || k == PLAIN || k >= KEEP) pthread_create(&threads[kinds++], NULL, thread, (void *)k);
    while (set < kinds) usleep(1000);
    int dumpable = prctl(PR_GET_DUMPABLE);
    scenario_wait();
    for (int k = 0; k < kinds; k++) pthread_join(threads[k], NULL);
    take(&after);
    for (int k = 0; k < 9; k++) if (strcmp(before.lines[k], after.lines[k])) scenario_differs("main: %s, was %s", after.lines[k], before.lines[k]);
    same(dumpable, prctl(PR_GET_DUMPABLE));
    same(kinds, checked);
    return scenario_end();
}

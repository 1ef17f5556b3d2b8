// Credentials of a process that started as root: ids of all four kinds, groups, capabilities, securebits.
#include "scenario.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
struct credentials { uid_t u[4]; gid_t g[4]; gid_t groups[8]; int count; struct __user_cap_data_struct caps[2]; int bounding, securebits; };
static void take(struct credentials *c) {
    memset(c, 0, sizeof *c);
    getresuid(&c->u[0], &c->u[1], &c->u[2]);
    getresgid(&c->g[0], &c->g[1], &c->g[2]);
    c->u[3] = setfsuid(-1);
    c->g[3] = setfsgid(-1);
    c->count = getgroups(8, c->groups);
    struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
    syscall(SYS_capget, &h, c->caps);
    for (int i = 0; i < 31; i++) c->bounding |= (prctl(PR_CAPBSET_READ, i) > 0) << i;
    c->securebits = prctl(PR_GET_SECUREBITS);
}
int main(void) {
    gid_t groups[] = { 7, 20, 4000 };
    must(setgroups(3, groups));
    must(prctl(PR_CAPBSET_DROP, CAP_NET_RAW));
    must(setresgid(1100, 1101, 1102));
    must(setresuid(0, 1201, 0));                    // may go back
    setfsuid(1203);
    struct credentials before, after;
    take(&before);
    chmod(scenario_path("."), 0777);
    seteuid(0);
    chmod(scenario_path("."), 0777);
    seteuid(1201);
    take(&before);
    scenario_wait();
    take(&after);
    for (int i = 0; i < 4; i++) { same(before.u[i], after.u[i]); same(before.g[i], after.g[i]); }
    same(before.count, after.count);
    for (int i = 0; i < before.count; i++) same(before.groups[i], after.groups[i]);
    for (int i = 0; i < 2; i++) {
        same(before.caps[i].effective, after.caps[i].effective);
        same(before.caps[i].permitted, after.caps[i].permitted);
        same(before.caps[i].inheritable, after.caps[i].inheritable);
    }
    same(before.bounding, after.bounding);
    same(before.securebits, after.securebits);
    must(seteuid(0));
    same(0, geteuid());
    return scenario_end();
}

// A child in a user namespace of its own that shows several users and groups, and its child, who is one of them that does not show inside.
#include "namespaces-users.h"
#include <grp.h>
static pid_t waiting(const char *name, void (*become)(void)) {
    char before[8192];
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    become();
    identity(before);
    scenario_touch(name);
    scenario_await("go");
    same_identity(name, before);
    scenario_leave(3);
    return 0;
}
static void root(void) { must(setgid(0)); must(setuid(0)); }
static void user(void) { gid_t list[] = { 9, 77 }; must(setgroups(2, list)); must(setresgid(8, 9, 8)); must(setresuid(2, 5, 2)); }
static void user_with_capabilities(void) {
    must(prctl(PR_SET_KEEPCAPS, 1));
    must(setresuid(20, 20, 20));
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}
static void unseen(void) {}         // who entered, outside
int main(void) {
    must(chmod(getenv("SCENARIO"), 0777));
    pid_t child = must(fork());
    if (!child) {
        enter("1 200000 10\n0 100 1\n20 300000 1\n", "0 0 1\n7 200000 300\n");
        pid_t all[] = { waiting("unseen", unseen), waiting("root", root), waiting("user", user), waiting("capable", user_with_capabilities) };
        scenario_touch("child");
        scenario_await("go");
        for (int i = 0; i < 4; i++) scenario_child(all[i], 3);
        scenario_leave(4);
    }
    scenario_await("child");
    scenario_wait();
    scenario_child(child, 4);
    return scenario_end();
}

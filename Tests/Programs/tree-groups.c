// Process groups and terminal sessions inside the tree, also ones whose leaders have gone.
#include "scenario.h"
struct expect { pid_t pid, group, session; };
static struct expect *seen;
static void hold(int i) {
    struct expect e = { getpid(), getpgrp(), getsid(0) };
    seen[i] = e;
    char name[32];
    snprintf(name, sizeof name, "member-%d", i);
    scenario_touch(name);
    scenario_await("go");
    same(e.pid, getpid());
    same(e.group, getpgrp());
    same_session(e.session, getsid(0), i >= 2 && i <= 4);
    scenario_leave(40 + i);
}
int main(void) {
    seen = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid_t child[6], group = getpgrp(), session = getsid(0);
    if (!(child[0] = must(fork()))) { setpgid(0, 0); hold(0); }                                    // leads a group
    scenario_await("member-0");
    if (!(child[1] = must(fork()))) { setpgid(0, child[0]); hold(1); }                             // is in that group
    if (!(child[2] = must(fork()))) { setsid(); hold(2); }                                         // leads a session
    if (!(child[3] = must(fork()))) {                                                              // leads a session with a group in it
        setsid();
        pid_t inner = must(fork());
        if (!inner) { setpgid(0, 0); hold(4); }
        char name[] = "member-4";
        scenario_await(name);
        seen[3] = (struct expect){ getpid(), getpgrp(), getsid(0) };
        scenario_touch("member-3");
        scenario_await("go");
        same(seen[3].pid, getsid(0));
        same(seen[4].pid, getpgid(inner));
        scenario_child(inner, 44);
        scenario_leave(43);
    }
    pid_t leader = must(fork());                                                                   // a group whose leader has gone
    if (!leader) { setpgid(0, 0); scenario_touch("leader"); scenario_await("joined"); _exit(0); }
    scenario_await("leader");
    if (!(child[5] = must(fork()))) { setpgid(0, leader); scenario_touch("joined"); hold(5); }
    scenario_child(leader, 0);
    for (int i = 0; i < 6; i++) { char name[32]; snprintf(name, sizeof name, "member-%d", i); scenario_await(name); }
    scenario_wait();
    same(group, getpgrp());
    same_session(session, getsid(0), session == getpid());
    same(leader, getpgid(child[5]));
    same(child[0], getpgid(child[1]));
    same(child[2], getsid(child[2]));
    for (int i = 0; i < 6; i++) if (i != 4) scenario_child(child[i], 40 + i);
    return scenario_end();
}

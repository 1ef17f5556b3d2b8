// Children that give their user away and execute a program: they can't join root's session, and no checkpoint may end them.
#include "scenario.h"
int main(void) {
    if (getuid()) { scenario_wait(); return scenario_end(); }
    scenario_touch("ready");
    for (int i = 0; !scenario_exists("go") || i < 200; i++) {
        pid_t child = must(fork());
        if (!child) {
            must(setresgid(65534, 65534, 65534)); must(setresuid(65534, 65534, 65534));
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        scenario_child(child, 0);
        if (i == 20000) break;
    }
    return scenario_end();
}

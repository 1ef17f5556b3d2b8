// A process inside chroot: its root and its working directory stay what they were.
#include "scenario.h"
int main(void) {
    must(mkdir(scenario_path("jail"), 0755));
    must(mkdir(scenario_path("jail/inner"), 0755));
    must(mkdir(scenario_path("jail/tmp"), 0777));
    must(chdir(scenario_path("jail")));
    scenario_touch("jail/marker");
    must(symlink("/", scenario_path("jail/loop")));
    must(chroot("."));
    must(chdir("/inner"));
    setenv("SCENARIO", "/tmp", 1);                  // /tmp/ready and /tmp/go of the jail
    scenario_wait();
    same(0, access("/marker", F_OK));
    same(-1, access("/proc", F_OK));
    char here[64];
    check(getcwd(here, sizeof here) && !strcmp(here, "/inner"));
    must(chdir("/"));
    must(chdir(".."));
    same(0, access("marker", F_OK));
    return scenario_end();
}

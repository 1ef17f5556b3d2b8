// Leaves the folder that it worked in, and unmounts what is there, while its snapshot still writes.
#include "scenario.h"
#include <sys/mount.h>
int main(void) {
    enum { SIZE = 32 << 20 };
    scenario_fill(must(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), SIZE, 5);
    const char *folder = scenario_path("mounted");
    must(mkdir(folder, 0700));
    must(mount("none", folder, "tmpfs", 0, NULL));
    must(chdir(folder));
    scenario_touch("ready");
    scenario_await("leave");
    must(chdir("/"));
    same(0, umount2(scenario_path("mounted"), 0));
    umount2(scenario_path("mounted"), MNT_DETACH);
    scenario_touch("left");
    scenario_await("go");
    return scenario_end();
}

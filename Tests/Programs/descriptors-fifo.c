// A FIFO with a name: contents in flight between two members, and one that only this process holds open both ways.
#include "scenario.h"
int main(void) {
    must(mkfifo(scenario_path("fifo"), 0600));
    must(mkfifo(scenario_path("own"), 0600));
    int own = must(open(scenario_path("own"), O_RDWR));
    must(write(own, "in flight", 9));
    // One that has lost its name while it is open, in a folder that is gone as well.
    char folder[512], path[560];
    snprintf(folder, sizeof folder, "%s", scenario_path("folder"));
    snprintf(path, sizeof path, "%s/lost", folder);
    must(mkdir(folder, 0700));
    must(mkfifo(path, 0640));
    int lost = must(open(path, O_RDWR)), reader = must(open(path, O_RDONLY | O_NONBLOCK));
    must(write(lost, "nameless", 8));
    must(unlink(path));
    must(rmdir(folder));
    pid_t child = must(fork());
    if (!child) {
        int in = must(open(scenario_path("fifo"), O_RDONLY));
        scenario_touch("child");
        scenario_await("go");
        char x[64] = "";
        int n = 0;
        while (n < 12) { int r = read(in, x + n, 12 - n); if (r <= 0) break; n += r; }
        check(!strcmp(x, "before-after"));
        same(0, read(in, x, 1));
        scenario_leave(3);
    }
    int out = must(open(scenario_path("fifo"), O_WRONLY));
    must(write(out, "before-", 7));
    scenario_await("child");
    scenario_wait();
    char x[64] = "";
    must(write(out, "after", 5));
    close(out);
    same(9, read(own, x, 64));
    check(!memcmp(x, "in flight", 9));
    struct stat s;
    must(fstat(lost, &s));
    same(S_IFIFO | 0640, s.st_mode); same(0, s.st_nlink);
    same(8, read(reader, x, 64));
    check(!memcmp(x, "nameless", 8));
    same(-1, read(reader, x, 64)); same(EAGAIN, errno);
    scenario_child(child, 3);
    int again = must(open(scenario_path("own"), O_RDONLY | O_NONBLOCK));   // still the FIFO of that name
    must(write(own, "x", 1));
    same(1, read(again, x, 10));
    return scenario_end();
}

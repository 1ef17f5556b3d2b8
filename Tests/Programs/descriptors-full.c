// The descriptor table is full: not one number is free for anybody else.
#include "scenario.h"
int main(void) {
    struct rlimit limit = { 64, 64 };
    int keep = must(open("/dev/null", O_RDWR)), n = 0, fds[64];
    close(keep);
    must(setrlimit(RLIMIT_NOFILE, &limit));
    scenario_touch("ready");
    for (int fd; (fd = open("/dev/zero", O_RDONLY)) >= 0; ) fds[n++] = fd;
    same(EMFILE, errno);
    for (int i = 0; i < 12000 && !scenario_exists("go"); i++) usleep(5000);
    same(-1, open("/dev/null", O_RDONLY));
    same(EMFILE, errno);
    char x = 1;
    for (int i = 0; i < n; i++) { same(1, read(fds[i], &x, 1)); same(0, x); }
    check(n > 50);
    struct rlimit after;
    getrlimit(RLIMIT_NOFILE, &after);
    same(64, after.rlim_cur);
    same(64, after.rlim_max);
    return scenario_end();
}

// A file of /proc that is open is the same file of the same process, and tells what is true now.
#include "scenario.h"
int main(void) {
    int fd = must(open("/proc/self/status", O_RDONLY));
    char x[4096];
    read(fd, x, 10);
    scenario_wait();
    same(10, lseek(fd, 0, SEEK_CUR));
    int n = pread(fd, x, sizeof x - 1, 0);
    check(n > 0);
    x[n > 0 ? n : 0] = 0;
    char *line = strstr(x, "\nPid:");
    check(line && atoi(line + 5) == getpid());
    return scenario_end();
}

// /dev/null, zero, full, random and urandom.
#include "scenario.h"
int main(void) {
    const char *names[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom" };
    int fd[5];
    struct stat before[5], after;
    for (int i = 0; i < 5; i++) { fd[i] = must(open(names[i], O_RDWR | (i & 1 ? O_CLOEXEC : 0))); fstat(fd[i], &before[i]); }
    scenario_wait();
    char x[16];
    for (int i = 0; i < 5; i++) { must(fstat(fd[i], &after)); same(before[i].st_rdev, after.st_rdev); same(i & 1, fcntl(fd[i], F_GETFD)); }
    same(0, read(fd[0], x, 16));
    same(16, write(fd[0], x, 16));
    same(16, read(fd[1], x, 16));
    same(-1, scenario_nonzero(x, 16));
    same(-1, write(fd[2], x, 1));
    same(ENOSPC, errno);
    same(16, read(fd[3], x, 16));
    same(16, read(fd[4], x, 16));
    return scenario_end();
}

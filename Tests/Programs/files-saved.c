// With --save-files: what the files were at the instant is back, over what was done to them afterwards, with their holes, modes and times.
#include "scenario.h"
static struct stat before[4];
static const char *names[] = { "log", "sparse", "mapped", "removed" };
int main(void) {
    static char b[1 << 20];
    scenario_fill(b, sizeof b, 7);
    int fd[4];
    for (int i = 0; i < 4; i++) fd[i] = must(open(scenario_path(names[i]), O_RDWR | O_CREAT, 0640));
    must(write(fd[0], b, 300001));
    must(ftruncate(fd[1], 64 << 20)); must(pwrite(fd[1], b, 70000, 8 << 20)); must(pwrite(fd[1], "end", 3, (64 << 20) - 3));
    must(ftruncate(fd[2], 65536));
    char *map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd[2], 0);
    memcpy(map, b + 4096, 65536);
    close(fd[2]);
    must(write(fd[3], "still here", 10));
    must(fchmod(fd[3], 0600));
    struct timespec old[2] = { { 1000000000, 5 }, { 1100000000, 123456789 } };
    must(futimens(fd[1], old));
    for (int i = 0; i < 4; i++) must(stat(scenario_path(names[i]), &before[i]));
    scenario_wait();
    for (int i = 0; i < 4; i++) {
        struct stat now; must(stat(scenario_path(names[i]), &now));
        same(before[i].st_size, now.st_size); same(before[i].st_mode, now.st_mode);
        same(before[i].st_mtim.tv_sec, now.st_mtim.tv_sec); same(before[i].st_mtim.tv_nsec, now.st_mtim.tv_nsec);
    }
    same(before[1].st_atim.tv_sec, ({ struct stat s; fstat(fd[1], &s); s.st_atim.tv_sec; }));
    static char c[1 << 20];
    same(300001, pread(fd[0], c, sizeof c, 0)); check(!memcmp(b, c, 300001)); same(300001, lseek(fd[0], 0, SEEK_CUR));
    same(70000, pread(fd[1], c, 70000, 8 << 20)); check(!memcmp(b, c, 70000));
    same(0, scenario_nonzero(c, 0) + 1); must(pread(fd[1], c, sizeof c, 1 << 20)); same(-1, scenario_nonzero(c, sizeof c));
    same(8 << 20, lseek(fd[1], 0, SEEK_DATA)); check(lseek(fd[1], 9 << 20, SEEK_DATA) > 60 << 20);
    check(!memcmp(map, b + 4096, 65536));
    map[5] = 'm'; int again = must(open(scenario_path("mapped"), O_RDONLY)); must(pread(again, c, 1, 5)); same('m', c[0]);
    same(10, pread(fd[3], c, 64, 0)); check(!memcmp(c, "still here", 10));
    return scenario_end();
}

// Regular files: offset, flags, append, close-on-exec, numbers; reading and writing goes on where it was.
#include "scenario.h"
int main(void) {
    int a = must(open(scenario_path("a.dat"), O_RDWR | O_CREAT, 0640));
    must(write(a, "0123456789abcdef", 16));
    must(lseek(a, 4, SEEK_SET));
    int b = must(open(scenario_path("a.dat"), O_RDONLY | O_CLOEXEC | O_NOATIME));
    must(lseek(b, 10, SEEK_SET));
    int c = must(open(scenario_path("log.txt"), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK, 0600));
    must(write(c, "one\n", 4));
    int d = must(fcntl(b, F_DUPFD_CLOEXEC, 200));
    int e = must(open(scenario_path("sync.dat"), O_WRONLY | O_CREAT | O_DSYNC, 0600));
    int f = must(open(scenario_path("a.dat"), O_PATH));
    int g = must(open(scenario_path("far.dat"), O_RDWR | O_CREAT, 0600));
    must(lseek(g, 5ll << 30, SEEK_SET));
    int fds[] = { 0, 1, 2, a, b, c, d, e, f, g };
    enum { N = sizeof fds / sizeof fds[0] };
    int flags[N], cloexec[N];
    struct stat st[N];
    for (int i = 0; i < N; i++) { flags[i] = fcntl(fds[i], F_GETFL); cloexec[i] = fcntl(fds[i], F_GETFD); fstat(fds[i], &st[i]); }
    static char open_before[1024];
    for (int i = 0; i < 1024; i++) open_before[i] = fcntl(i, F_GETFD) >= 0;
    scenario_wait();
    for (int i = 0; i < N; i++) {
        struct stat now;
        same(flags[i] + 0 * i, fcntl(fds[i], F_GETFL));
        same(cloexec[i], fcntl(fds[i], F_GETFD));
        same(0, fstat(fds[i], &now));
        same(st[i].st_ino, now.st_ino);
        same(st[i].st_dev, now.st_dev);
        same(st[i].st_mode, now.st_mode);
    }
    for (int i = 0; i < 1024; i++) same(10 * i + open_before[i], 10 * i + (fcntl(i, F_GETFD) >= 0));
    char text[20] = "";
    same(4, lseek(a, 0, SEEK_CUR));
    same(3, read(a, text, 3));
    check(!memcmp(text, "456", 3));
    same(2, read(b, text, 2));
    check(!memcmp(text, "ab", 2));
    same(12, lseek(d, 0, SEEK_CUR));                        // one description with b
    int other = open(scenario_path("log.txt"), O_WRONLY | O_APPEND);
    write(other, "two\n", 4);
    must(write(c, "three\n", 6));
    close(other);
    other = open(scenario_path("log.txt"), O_RDONLY);
    same(14, read(other, text, 20));
    check(!memcmp(text, "one\ntwo\nthree\n", 14));
    same(5ll << 30, lseek(g, 0, SEEK_CUR));
    same(-1, write(b, "x", 1));
    same(EBADF, errno);
    same(-1, read(f, text, 1));
    return scenario_end();
}

// A memfd, mapped and open: name, size and contents.
#include "scenario.h"
int main(void) {
    int fd = must(memfd_create("scenario memfd", MFD_CLOEXEC));
    must(ftruncate(fd, 65536));
    char *m = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    scenario_fill(m + 8192, 8192, 3);
    lseek(fd, 100, SEEK_SET);
    char link[128] = "", after[128] = "", name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    must(readlink(name, link, 127));
    scenario_wait();
    must(readlink(name, after, 127));
    check(!strcmp(link, after));
    same(100, lseek(fd, 0, SEEK_CUR));
    same(65536, lseek(fd, 0, SEEK_END));
    same(-1, scenario_compare(m + 8192, 8192, 3));
    m[0] = 'm';
    char byte = 0;
    pread(fd, &byte, 1, 0);
    same('m', byte);
    same(FD_CLOEXEC, fcntl(fd, F_GETFD));
    return scenario_end();
}

// Memfds with each kind of seal: written seals with a mapping that may still write, size seals, execution; open twice, mapped after the descriptor is closed.
#include "scenario.h"
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 16
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 32
#endif
static int make(const char *name, unsigned flags, int seals) {
    int fd = must(memfd_create(name, flags));
    must(ftruncate(fd, 12288)); must(pwrite(fd, "contents", 8, 4096));
    if (seals) must(fcntl(fd, F_ADD_SEALS, seals));
    return fd;
}
int main(void) {
    int size = make("size", MFD_ALLOW_SEALING | MFD_CLOEXEC, F_SEAL_SHRINK | F_SEAL_GROW), constant = make("constant", MFD_ALLOW_SEALING, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
        plain = make("plain", 0, 0), open_for_seals = make("open", MFD_ALLOW_SEALING, 0), future = make("future", MFD_ALLOW_SEALING, 0);
    char *writes = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0), *reads = mmap(NULL, 12288, PROT_READ, MAP_SHARED, constant, 0), *private = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE, constant, 0);
    must(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    memcpy(writes + 8192, "before", 6); memcpy(private, "mine", 4);
    int noexec = memfd_create("noexec", 8);     // MFD_NOEXEC_SEAL, Linux 6.3
    if (noexec >= 0) must(ftruncate(noexec, 12288));
    int twice = must(open(({ static char p[64]; snprintf(p, sizeof p, "/proc/self/fd/%d", plain); p; }), O_RDONLY)), closed = make("closed", MFD_ALLOW_SEALING, F_SEAL_GROW);
    char *kept = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, closed, 0); close(closed);
    int fds[] = { size, constant, plain, open_for_seals, future, noexec, twice }, seals[7]; mode_t modes[7]; struct stat s;
    for (int i = 0; i < 7; i++) if (fds[i] >= 0) { seals[i] = must(fcntl(fds[i], F_GET_SEALS)); must(fstat(fds[i], &s)); modes[i] = s.st_mode; }
    scenario_wait();
    for (int i = 0; i < 7; i++) if (fds[i] >= 0) { same(seals[i], fcntl(fds[i], F_GET_SEALS)); must(fstat(fds[i], &s)); same(modes[i], s.st_mode); same(12288, s.st_size); }
    char b[8];
    for (int i = 0; i < 5; i++) { must(pread(fds[i], b, 8, 4096)); check(!memcmp(b, "contents", 8)); }
    check(ftruncate(size, 1) < 0 && errno == EPERM); must(pwrite(size, "w", 1, 0));
    check(pwrite(constant, "w", 1, 0) < 0 && errno == EPERM); check(!memcmp(reads + 4096, "contents", 8) && !memcmp(private, "mine", 4));
    check(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW) < 0); must(fcntl(open_for_seals, F_ADD_SEALS, F_SEAL_GROW));
    check(pwrite(future, "w", 1, 0) < 0 && errno == EPERM);
    memcpy(writes, "after", 5); must(pread(future, b, 6, 8192)); check(!memcmp(b, "before", 6)); must(pread(future, b, 5, 0)); check(!memcmp(b, "after", 5));
    check(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED);
    must(pwrite(plain, "P", 1, 0)); must(pread(twice, b, 1, 0)); same('P', b[0]); same(O_RDONLY, fcntl(twice, F_GETFL) & O_ACCMODE);
    check(!memcmp(kept + 4096, "contents", 8)); kept[0] = 'k';
    return scenario_end();
}

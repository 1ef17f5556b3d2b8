// A file of /proc that shows addresses to root only, and a pipe whose SIGIO is sent with the rights of who asked for it.
#include "scenario.h"
#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17
#endif
int main(void) {
    char before[64] = "", after[64] = "";
    int symbols = must(open("/proc/kallsyms", O_RDONLY)), p[2];
    must(pread(symbols, before, 16, 0));
    must(pipe(p));
    must(fcntl(p[0], F_SETOWN, getpid()));
    scenario_wait();
    must(pread(symbols, after, 16, 0));
    check(!strcmp(before, after));
    uid_t ids[2] = { 0, 0 };
    if (!fcntl(p[0], F_GETOWNER_UIDS, ids)) { same(getuid(), ids[0]); same(geteuid(), ids[1]); }
    same(getpid(), fcntl(p[0], F_GETOWN));
    return scenario_end();
}

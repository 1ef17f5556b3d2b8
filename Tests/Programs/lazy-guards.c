// Guards that come and go on memory that a lazy restart has loaded, while it is loading the rest: no event tells the server of them, and what was guarded is zeros.
// Run so that "go" is there before the restart.
#include "lazy.h"
enum { INSTALL = 102, REMOVE = 103 };
static void guard(char *p, size_t size) { must(madvise(p, size, INSTALL)); must(madvise(p, size, REMOVE)); }
int main(void) {
    // Where it is mapped last it is loaded first.
    char *written = fresh(32 * MIB, 1), *seen = fresh(16 * MIB, 2), *single = fresh(16 * MIB, 3), *moved = fresh(16 * MIB, 4), *inherited = fresh(16 * MIB, 5), *ballast = fresh(256 * MIB, 6);
    scenario_touch("ready");
    scenario_await("go");
    // Linux 6.13.
    char *probe = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (madvise(probe, 4096, INSTALL)) return scenario_end();
    for (size_t at = 0; at < 32 * MIB; at += MIB) {
        memset(written + at, 9, MIB);
        guard(written + at, MIB);
        zeros("written", written + at, MIB);
    }
    for (size_t at = 0; at < 16 * MIB; at += MIB) {
        equal("seen", seen + at, MIB, 2 + at / 8);
        guard(seen + at, MIB);
        zeros("seen", seen + at, MIB);
    }
    // The others of a run stay.
    for (size_t at = 0; at < 4 * MIB; at += 8192) { single[at] = 9; guard(single + at, 4096); }
    for (size_t at = 0; at < 4 * MIB; at += 8192) { zeros("single", single + at, 4096); equal("beside", single + at + 4096, 4096, 3 + (at + 4096) / 8); }
    memset(moved, 9, MIB);
    char *elsewhere = must(mremap(moved, 16 * MIB, 16 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, must(mmap(NULL, 16 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))));
    guard(elsewhere, MIB);
    zeros("moved", elsewhere, MIB);
    equal("moved, not guarded", elsewhere + MIB, 15 * MIB, 4 + MIB / 8);
    memset(inherited, 9, MIB);
    pid_t child = must(fork());
    if (child == 0) {
        guard(inherited, MIB);
        zeros("the child's", inherited, MIB);
        equal("the child's, not guarded", inherited + MIB, 15 * MIB, 5 + MIB / 8);
        scenario_leave(3);
    }
    scenario_child(child, 3);
    for (size_t at = 0; at < MIB; at++) if (inherited[at] != 9) { scenario_differs("the parent's: byte %zu", at); break; }
    equal("ballast", ballast, 256 * MIB, 6);
    return scenario_end();
}

// More sockets than whoever takes the checkpoint may have files open.
#include "scenario.h"
#include <sys/socket.h>
enum { PAIRS = 100 };
int main(void) {
    int ends[PAIRS][2];
    for (int i = 0; i < PAIRS; i++) must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]));
    scenario_wait();
    for (int i = 0; i < PAIRS; i++) { char c = 0; check(write(ends[i][0], &i, 1) == 1 && read(ends[i][1], &c, 1) == 1 && c == (char)i); }
    return scenario_end();
}

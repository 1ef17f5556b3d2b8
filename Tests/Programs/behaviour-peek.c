// A socket whose looks step through its queue (SO_PEEK_OFF): the place of the next look is the program's own.
#include "scenario.h"
#include <sys/socket.h>
int main(void) {
    int s[2], at = 2, type[2] = { SOCK_STREAM, SOCK_SEQPACKET };
    for (int k = 0; k < 2; k++) {
        must(socketpair(AF_UNIX, type[k], 0, s));
        must(write(s[0], "abcdefgh", 8));
        must(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &at, sizeof at));
        scenario_touch(k ? "second" : "ready"); scenario_await(k ? "go" : "on");
        char got[9] = ""; socklen_t n = sizeof at; int now;
        must(getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &now, &n)); same(at, now);
        same(6, recv(s[1], got, 8, MSG_PEEK | MSG_DONTWAIT)); same(0, strcmp("cdefgh", got));
        same(8, recv(s[1], got, 8, MSG_DONTWAIT)); same(0, strncmp("abcdefgh", got, 8));
    }
    return scenario_end();
}

// Messages of no bytes among others, in a queue of datagrams and two of packets, and packets' ends: closed, shut down, with and without something unread.
#include "scenario.h"
#include <sys/socket.h>
static const char *sent[] = { "", "x", "", "", "yy", "" };
enum { COUNT = 6 };
static void put(int fd) { for (int i = 0; i < COUNT; i++) same(strlen(sent[i]), send(fd, sent[i], strlen(sent[i]), 0)); }
static void expect(int fd) {
    for (int i = 0; i < COUNT; i++) {
        char got[8] = "?";
        same(strlen(sent[i]), recv(fd, got, sizeof got, MSG_DONTWAIT));
        check(!memcmp(got, sent[i], strlen(sent[i])));
    }
}
int main(void) {
    int datagrams[2], packets[2], closed[2], shut[2], empty[2], mine[2];
    int *pairs[] = { datagrams, packets, closed, shut, empty, mine };
    for (int i = 0; i < 6; i++) must(socketpair(AF_UNIX, i ? SOCK_SEQPACKET : SOCK_DGRAM, 0, pairs[i]));
    put(datagrams[0]); put(packets[0]); put(closed[0]); put(shut[0]);
    close(closed[0]);
    must(shutdown(shut[0], SHUT_WR));
    close(empty[0]);
    must(shutdown(mine[1], SHUT_RD));
    scenario_wait();
    char c;
    for (int i = 0; i < 4; i++) expect(pairs[i][1]);
    same(-1, recv(datagrams[1], &c, 1, MSG_DONTWAIT)); same(EAGAIN, errno);
    same(-1, recv(packets[1], &c, 1, MSG_DONTWAIT)); same(EAGAIN, errno);
    for (int i = 2; i < 6; i++) same(0, recv(pairs[i][1], &c, 1, MSG_DONTWAIT));
    return scenario_end();
}

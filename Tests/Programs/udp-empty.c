// Datagrams of no bytes among others, also as the first and the last.
#include "inet.h"
static const char *sent[] = { "", "x", "", "", "yy", "" };
int main(int argc, char **argv) {
    inet_arguments(argc, argv);
    int from = inet_bound(SOCK_DGRAM, 0), to = inet_bound(SOCK_DGRAM, 0);
    inet_name source = inet_local(from), target = inet_local(to);
    for (int i = 0; i < 6; i++) same(strlen(sent[i]), sendto(from, sent[i], strlen(sent[i]), 0, (void *)&target.at, target.size));
    scenario_wait();
    for (int i = 0; i < 6; i++) {
        char got[8] = "?";
        inet_name seen = { .size = sizeof seen.at };
        same(strlen(sent[i]), recvfrom(to, got, sizeof got, MSG_DONTWAIT, (void *)&seen.at, &seen.size));
        check(!memcmp(got, sent[i], strlen(sent[i])) && inet_equal(seen, source));
    }
    same(-1, recv(to, argv, 1, MSG_DONTWAIT));
    same(EAGAIN, errno);
    return scenario_end();
}

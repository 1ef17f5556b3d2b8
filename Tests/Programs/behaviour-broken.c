// A connection that breaks while much is waited for says so, whatever interrupts the wait: no stream that was cut looks complete.
#include "inet.h"
#include <pthread.h>
static int ends[2];
static void *breaks(void *p) {
    struct linger now = { 1, 0 };
    must(write(ends[0], "0123456789", 10));
    usleep(15000);
    must(setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &now, sizeof now));
    close(ends[0]);
    return p;
}
int main(void) {
    char b[100];
    scenario_touch("ready");
    while (!scenario_exists("go")) {
        inet_pair(&ends[0], &ends[1]);
        pthread_t t;
        pthread_create(&t, NULL, breaks, NULL);
        long got = recv(ends[1], b, sizeof b, MSG_WAITALL);
        if (got == 10) got = recv(ends[1], b, sizeof b, MSG_WAITALL);
        same(-1, got); same(ECONNRESET, errno);
        pthread_join(t, NULL);
        close(ends[1]);
    }
    return scenario_end();
}

// So many POSIX messages that to take them and put them back takes a while; a child looks all the time whether they are there.
#include "scenario.h"
#include <mqueue.h>
enum { QUEUES = 100, MESSAGES = 10 };
static mqd_t queue[QUEUES];
static void look(void) {
    struct mq_attr now;
    for (int i = 0; i < QUEUES; i++) { must(mq_getattr(queue[i], &now)); same(MESSAGES, now.mq_curmsgs); }
}
int main(void) {
    char name[64], b[16];
    for (int i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof name, "/ckpt-held-%d-%d", getpid(), i);
        struct mq_attr a = { .mq_maxmsg = MESSAGES, .mq_msgsize = sizeof b };
        queue[i] = must(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &a));
        must(mq_unlink(name));
        for (int n = 0; n < MESSAGES; n++) must(mq_send(queue[i], (char *)&n, sizeof n, 3));
    }
    pid_t child = must(fork());
    if (!child) {
        int beats = must(open(scenario_path("beats"), O_CREAT | O_WRONLY, 0600));
        for (int n = 0; !scenario_exists("go"); n++) { must(pwrite(beats, &n, sizeof n, 0)); look(); usleep(500); }
        scenario_leave(0);
    }
    scenario_wait();
    scenario_child(child, 0);
    look();
    for (int i = 0; i < QUEUES; i++) for (int k = 0, n; k < MESSAGES; k++) { same(sizeof n, mq_receive(queue[i], b, sizeof b, NULL)); memcpy(&n, b, sizeof n); same(k, n); }
    return scenario_end();
}

// Message queues with more in them (54 MiB) than a session has room for.
#include "systemv.h"
enum { QUEUES = 3456, LONG = 8192 };

int main(void) {
    static int queues[QUEUES];
    struct { long type; char text[LONG]; } message = { 1, "" };
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = must(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
        for (int k = 0; k < 2; k++) { memset(message.text, i + k, LONG); must(msgsnd(queues[i], &message, LONG, IPC_NOWAIT)); }
    }
    scenario_touch("ready");
    scenario_await("go");
    for (int i = 0; i < QUEUES; i++) {
        for (int k = 0; k < 2; k++) { same(LONG, msgrcv(queues[i], &message, LONG, 0, IPC_NOWAIT)); same((char)(i + k), message.text[0]); same((char)(i + k), message.text[LONG - 1]); }
        must(msgctl(queues[i], IPC_RMID, NULL));
    }
    return scenario_end();
}

// System V message queues: ids, messages in their order with their types, limits, and who used them last; a receiver that waits goes on waiting.
#include "systemv.h"
struct message { long type; char text[5000]; };
int main(void) {
    key_t key = 0x45000000 | (getpid() & 0xffff);
    int q = must(msgget(key, IPC_CREAT | IPC_EXCL | 0622)), empty = must(msgget(IPC_PRIVATE, 0600)), fresh = must(msgget(IPC_PRIVATE, 0600)), waiting = must(msgget(IPC_PRIVATE, 0600));
    struct message m = { 3, "dropped" };
    must(msgsnd(q, &m, 8, 0)); must(msgrcv(q, &m, 8, 3, 0));
    m.type = 7; memset(m.text, 'x', sizeof m.text); must(msgsnd(q, &m, sizeof m.text, 0));
    m.type = 2; strcpy(m.text, "second"); must(msgsnd(q, &m, 7, 0));
    m.type = 9; must(msgsnd(q, &m, 0, 0));
    pid_t child = must(fork());
    if (!child) {
        m.type = 2; strcpy(m.text, "child"); must(msgsnd(q, &m, 6, 0));
        must(msgsnd(empty, &m, 6, 0)); must(msgrcv(empty, &m, 6, 0, 0));
        scenario_touch("child");
        same(4, msgrcv(waiting, &m, sizeof m.text, 0, 0));
        same(0, strcmp(m.text, "end"));
        scenario_leave(2);
    }
    scenario_await("child");
    struct msqid_ds before, now, before2;
    must(msgctl(q, IPC_STAT, &before));
    before.msg_qbytes = 9000;
    must(msgctl(q, IPC_SET, &before));
    must(msgctl(q, IPC_STAT, &before)); must(msgctl(empty, IPC_STAT, &before2));
    scenario_wait();
    must(msgctl(q, IPC_STAT, &now));
    same(before.msg_perm.__key, now.msg_perm.__key); same(before.msg_perm.mode, now.msg_perm.mode); same(before.msg_perm.uid, now.msg_perm.uid); same(before.msg_perm.cuid, now.msg_perm.cuid);
    same(before.msg_qnum, now.msg_qnum); same(before.msg_qbytes, now.msg_qbytes); same(before.msg_lspid, now.msg_lspid); same(before.msg_lrpid, now.msg_lrpid);
    same(q, msgget(key, 0));
    must(msgctl(empty, IPC_STAT, &now));
    same(before2.msg_qnum, now.msg_qnum); same(before2.msg_lspid, now.msg_lspid); same(before2.msg_lrpid, now.msg_lrpid);
    same(7, msgrcv(q, &m, sizeof m.text, 2, 0)); same(0, strcmp(m.text, "second"));
    same(6, msgrcv(q, &m, sizeof m.text, 2, 0)); same(0, strcmp(m.text, "child"));
    same(5000, msgrcv(q, &m, sizeof m.text, 0, 0)); same(7, m.type); same('x', m.text[4999]);
    same(0, msgrcv(q, &m, sizeof m.text, 0, 0)); same(9, m.type);
    check(msgrcv(q, &m, sizeof m.text, 0, IPC_NOWAIT) < 0 && errno == ENOMSG);
    check(msgrcv(fresh, &m, sizeof m.text, 0, IPC_NOWAIT) < 0 && errno == ENOMSG);
    m.type = 1; strcpy(m.text, "end");
    must(msgsnd(waiting, &m, 4, 0));
    scenario_child(child, 2);
    must(msgctl(q, IPC_RMID, NULL)); must(msgctl(empty, IPC_RMID, NULL)); must(msgctl(fresh, IPC_RMID, NULL)); must(msgctl(waiting, IPC_RMID, NULL));
    return scenario_end();
}

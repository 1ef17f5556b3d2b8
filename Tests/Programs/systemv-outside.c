// System V IPC that a program outside the tree uses too: "partner KEY" is that program; without arguments it is the tree's.
#include "systemv.h"
struct message { long type; char text[8]; };
static int memory, set, queue;
static void open_all(key_t key, int flags) {
    memory = must(shmget(key, 4096, flags | 0600)); set = must(semget(key, 2, flags | 0600)); queue = must(msgget(key, flags | 0600));
}
static void operate(int n, int change, int flags) { struct sembuf b = { n, change, flags }; must(semop(set, &b, 1)); }
int main(int argc, char **argv) {
    struct message m = { 1, "" };
    if (argc > 1) {
        open_all(strtol(argv[1], NULL, 0), IPC_CREAT | IPC_EXCL);
        volatile int *p = must(shmat(memory, NULL, 0));
        p[0] = 1;
        operate(0, 5, 0);
        must(msgsnd(queue, &m, 1, 0));
        scenario_touch("partner-ready");
        while (!scenario_exists("partner-end")) { p[1]++; usleep(1000); }
        must(shmctl(memory, IPC_RMID, NULL)); must(semctl(set, 0, IPC_RMID)); must(msgctl(queue, IPC_RMID, NULL));
        return 0;
    }
    open_all(strtol(getenv("KEY"), NULL, 0), 0);
    volatile int *p = must(shmat(memory, NULL, 0));
    p[2] = 99;
    operate(1, 3, 0);
    operate(0, -2, SEM_UNDO);
    must(msgrcv(queue, &m, 8, 0, 0));
    m.text[0] = 'q';
    must(msgsnd(queue, &m, 2, 0));
    scenario_wait();
    // It is the same memory still, in which the other goes on counting; and the semaphore is taken as before.
    same(99, p[2]); same(1, p[0]);
    int count = p[1];
    for (int i = 0; i < 2000 && p[1] == count; i++) usleep(1000);
    check(p[1] != count);
    same(3, semctl(set, 0, GETVAL));
    same(3, semctl(set, 1, GETVAL));
    same(2, msgrcv(queue, &m, 8, 0, 0)); same('q', m.text[0]);
    return scenario_end();
}

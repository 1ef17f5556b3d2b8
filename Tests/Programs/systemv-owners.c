// System V and POSIX IPC of another user in a tree of root's: owners, creators, modes, and what they permit.
#include "systemv.h"
#include <mqueue.h>
struct ids { int ready, memory, set, queue; struct ipc_perm permission[3]; };
static void look(struct ids *i, struct ipc_perm *p) {
    struct shmid_ds m; struct semid_ds s; struct msqid_ds q;
    must(shmctl(i->memory, IPC_STAT, &m)); must(semctl(i->set, 0, IPC_STAT, &s)); must(msgctl(i->queue, IPC_STAT, &q));
    p[0] = m.shm_perm; p[1] = s.sem_perm; p[2] = q.msg_perm;
}
int main(void) {
    if (getuid()) { scenario_wait(); return scenario_end(); }
    struct ids *i = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    char name[64];
    snprintf(name, sizeof name, "/ckpt-owner-%d", getpid());
    systemv_note('p', name);
    pid_t child = must(fork());
    if (!child) {
        must(setresgid(65534, 65534, 65534)); must(setresuid(65534, 65534, 65534));
        i->memory = must(shmget(IPC_PRIVATE, 8192, 0600)); i->set = must(semget(IPC_PRIVATE, 2, 0600)); i->queue = must(msgget(IPC_PRIVATE, 0600));
        struct mq_attr a = { .mq_maxmsg = 2, .mq_msgsize = 16 };
        mqd_t posix = must(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &a));
        must(mq_send(posix, "mine", 4, 3));
        int *p = must(shmat(i->memory, NULL, 0));
        *p = 42;
        struct sembuf b = { 1, 4, SEM_UNDO }; must(semop(i->set, &b, 1));
        struct { long type; char text[4]; } m = { 5, "own" }; must(msgsnd(i->queue, &m, 4, 0));
        // Root's from now on, and still its creator's.
        struct msqid_ds q; must(msgctl(i->queue, IPC_STAT, &q)); q.msg_perm.uid = 1; q.msg_perm.gid = 2; q.msg_perm.mode = 0666; must(msgctl(i->queue, IPC_SET, &q));
        __atomic_store_n(&i->ready, 1, __ATOMIC_RELEASE);
        scenario_await("go");
        same(42, *p); same(4, semctl(i->set, 1, GETVAL)); same(4, msgrcv(i->queue, &m, 4, 5, 0)); same(0, strcmp(m.text, "own"));
        char text[16]; unsigned priority; same(4, mq_receive(posix, text, 16, &priority)); same(3, priority);
        struct stat st; must(fstat(posix, &st)); same(65534, st.st_uid); same(65534, st.st_gid);
        must(shmdt(p));
        int *again = must(shmat(i->memory, NULL, 0)); same(42, *again);
        scenario_leave(7);
    }
    while (!__atomic_load_n(&i->ready, __ATOMIC_ACQUIRE)) usleep(1000);
    look(i, i->permission);
    scenario_wait();
    struct ipc_perm now[3];
    look(i, now);
    for (int k = 0; k < 3; k++) {
        same(i->permission[k].uid, now[k].uid); same(i->permission[k].gid, now[k].gid); same(i->permission[k].cuid, now[k].cuid); same(i->permission[k].cgid, now[k].cgid);
        same(i->permission[k].mode, now[k].mode);
    }
    scenario_child(child, 7);
    same(0, semctl(i->set, 1, GETVAL));
    must(shmctl(i->memory, IPC_RMID, NULL)); must(semctl(i->set, 0, IPC_RMID)); must(msgctl(i->queue, IPC_RMID, NULL)); must(mq_unlink(name));
    return scenario_end();
}

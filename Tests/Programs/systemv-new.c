// System V IPC without anything that names a process: ids, contents, a locked segment, undo values of a child; also under other pids.
#include "systemv.h"
int main(void) {
    struct { long type; char text[8]; } m = { 4, "letter" };
    struct shmid_ds d;
    int memory = must(shmget(IPC_PRIVATE, 8192, 0600)), locked = must(shmget(IPC_PRIVATE, 4096, 0600)), set = must(semget(IPC_PRIVATE, 2, 0600)), queue = must(msgget(IPC_PRIVATE, 0600));
    char *a = must(shmat(memory, NULL, 0)), *b = must(shmat(locked, NULL, 0));
    scenario_fill(a, 8192, 1); scenario_fill(b, 4096, 2);
    must(shmctl(locked, SHM_LOCK, NULL));
    must(msgsnd(queue, &m, 7, 0));
    if (!must(fork())) {
        struct sembuf up = { 1, 6, SEM_UNDO };
        must(semop(set, &up, 1));
        scenario_touch("child");
        scenario_await("compared");
        check(scenario_compare(a, 8192, 1) < 0);
        scenario_leave(3);
    }
    scenario_await("child");
    scenario_wait();
    check(scenario_compare(a, 8192, 1) < 0); check(scenario_compare(b, 4096, 2) < 0);
    must(shmctl(memory, IPC_STAT, &d)); same(0600, d.shm_perm.mode & 07777); same(2, d.shm_nattch);
    must(shmctl(locked, IPC_STAT, &d)); same(0600 | SHM_LOCKED, d.shm_perm.mode & 07777);
    same(6, semctl(set, 1, GETVAL));
    memset(m.text, 0, sizeof m.text);
    same(7, msgrcv(queue, &m, sizeof m.text, 4, IPC_NOWAIT)); same(0, strcmp(m.text, "letter"));
    scenario_touch("compared");
    int status = 0;
    must(waitpid(-1, &status, 0)); same(3, WEXITSTATUS(status));     // its pid may be another
    same(0, semctl(set, 1, GETVAL));
    must(shmctl(memory, IPC_RMID, NULL)); must(shmctl(locked, IPC_RMID, NULL)); must(semctl(set, 0, IPC_RMID)); must(msgctl(queue, IPC_RMID, NULL));
    return scenario_end();
}

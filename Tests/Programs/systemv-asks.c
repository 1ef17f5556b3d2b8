// Makes and removes System V objects with the key argv[1] without pause; each that it has been given must be there.  Large ones take the kernel some time to make.
#include "scenario.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
int main(int argc, char **argv) {
    (void)argc;
    key_t key = atoi(argv[1]);
    scenario_touch("ready");
    for (int i = 0; access(scenario_path("go"), F_OK); i++) {
        struct shmid_ds segment; struct semid_ds set; struct msqid_ds queue;
        int id = must(shmget(key, 64 << 20, IPC_CREAT | 0600));
        if (shmctl(id, IPC_STAT, &segment)) { scenario_differs("segment %d is gone (round %d)", id, i); break; }
        must(shmctl(id, IPC_RMID, NULL));
        id = must(semget(key, 30000, IPC_CREAT | 0600));
        if (semctl(id, 0, IPC_STAT, &set)) { scenario_differs("set %d is gone (round %d)", id, i); break; }
        must(semctl(id, 0, IPC_RMID));
        id = must(msgget(key, IPC_CREAT | 0600));
        if (msgctl(id, IPC_STAT, &queue)) { scenario_differs("queue %d is gone (round %d)", id, i); break; }
        must(msgctl(id, IPC_RMID, NULL));
    }
    return scenario_end();
}

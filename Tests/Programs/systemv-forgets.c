// Asks for one System V object of each kind, tells their ids, and with an argument removes them.
#include "systemv.h"
int main(int argc, char **argv) {
    (void)argv;
    int segment = must(shmget(IPC_PRIVATE, 8192, 0600)), set = must(semget(IPC_PRIVATE, 2, 0600)), queue = must(msgget(IPC_PRIVATE, 0600));
    FILE *f = fopen(scenario_path("ids"), "w");
    fprintf(f, "%d %d %d", segment, set, queue);
    fclose(f);
    if (argc > 1) {
        void *attached = must(shmat(segment, NULL, 0));
        must(shmctl(segment, IPC_RMID, NULL)); must(shmdt(attached)); must(syscall(SYS_semctl, set, 0, IPC_RMID)); must(msgctl(queue, IPC_RMID, NULL));
    }
    scenario_wait();
    return scenario_end();
}

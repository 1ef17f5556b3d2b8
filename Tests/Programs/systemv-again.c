// argv: a segment's id, a semaphore set's, a queue's, how many semaphores, the key of the last two.  Makes objects with these ids, as a restart does, and ends.
#include "systemv.h"
#undef shmget
#undef semget
#undef msgget
static int chosen(const char *setting, int wanted, int (*make)(int, int), void (*drop)(int), int key, int count) {
    for (int i = 0; i < 50; i++) {
        FILE *f = fopen(setting, "w");
        if (!f || fprintf(f, "%d", wanted) < 0 || fclose(f)) { perror(setting); exit(1); }
        int id = make(key, count);
        if (id == wanted) return id;
        if (id < 0) { perror(setting); exit(1); }
        drop(id);
    }
    exit(2);
}
static int segment(int key, int count) { (void)key; return shmget(IPC_PRIVATE, count * 4096, 0600); }
static int set(int key, int count) { return semget(key, count, IPC_CREAT | 0600); }
static int queue(int key, int count) { (void)count; return msgget(key, IPC_CREAT | 0600); }
static void drop_segment(int id) { shmctl(id, IPC_RMID, NULL); }
static void drop_set(int id) { semctl(id, 0, IPC_RMID); }
static void drop_queue(int id) { msgctl(id, IPC_RMID, NULL); }
int main(int argc, char **argv) {
    if (argc != 6) return 3;
    int count = atoi(argv[4]), key = atoi(argv[5]);
    chosen("/proc/sys/kernel/shm_next_id", atoi(argv[1]), segment, drop_segment, 0, count);
    chosen("/proc/sys/kernel/sem_next_id", atoi(argv[2]), set, drop_set, key, count);
    chosen("/proc/sys/kernel/msg_next_id", atoi(argv[3]), queue, drop_queue, key, count);
    return 0;
}

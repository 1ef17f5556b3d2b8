// System V semaphores: ids, values, who used them last, and what the end of each process will undo.
#include "systemv.h"
enum { COUNT = 6 };
union semun { int val; struct semid_ds *buf; unsigned short *array; };
static int set, lone;
static void operate(int id, int n, int change, int flags) { struct sembuf b = { n, change, flags }; must(semop(id, &b, 1)); }
static int value(int n) { return semctl(set, n, GETVAL); }
int main(void) {
    key_t key = 0x44000000 | (getpid() & 0xffff);
    set = must(semget(key, COUNT, IPC_CREAT | IPC_EXCL | 0620));
    lone = must(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));      // nobody has used it yet
    unsigned short initial[COUNT] = { 5, 0, 32767, 32767, 1, 40 };
    must(semctl(set, 0, SETALL, (union semun){ .array = initial }));
    pid_t child = must(fork());
    if (!child) {
        operate(set, 0, -2, SEM_UNDO);                   // semadj 2
        operate(set, 1, 9, SEM_UNDO);                    // semadj −9
        operate(set, 2, -32767, SEM_UNDO);               // semadj 32767, the largest
        operate(set, 3, -1, SEM_UNDO); operate(set, 3, 1, SEM_UNDO);    // nothing left of it
        pthread_t t;
        void *thread(void *unused) { operate(set, 4, -1, SEM_UNDO); return unused; }    // threads share their undo values
        must0(pthread_create(&t, NULL, thread, NULL)); must0(pthread_join(t, NULL));
        scenario_touch("child");
        scenario_await("go");
        scenario_await("compared");
        scenario_leave(3);
    }
    scenario_await("child");
    operate(set, 5, -7, SEM_UNDO);
    operate(set, 3, -32767, 0); operate(set, 3, 32767, SEM_UNDO);        // semadj −32767
    struct semid_ds before, now;
    must(semctl(set, 0, IPC_STAT, (union semun){ .buf = &before }));
    int last[COUNT];
    for (int i = 0; i < COUNT; i++) last[i] = must(semctl(set, i, GETPID));
    scenario_wait();
    must(semctl(set, 0, IPC_STAT, (union semun){ .buf = &now }));
    same(before.sem_perm.__key, now.sem_perm.__key); same(before.sem_perm.mode, now.sem_perm.mode); same(before.sem_nsems, now.sem_nsems);
    same(before.sem_perm.uid, now.sem_perm.uid); same(before.sem_perm.cuid, now.sem_perm.cuid); same(before.sem_perm.gid, now.sem_perm.gid);
    same(set, semget(key, 0, 0));
    int wanted[COUNT] = { 3, 9, 0, 32767, 0, 33 };
    for (int i = 0; i < COUNT; i++) { same(wanted[i], value(i)); same(last[i], semctl(set, i, GETPID)); }
    same(0, semctl(lone, 0, GETVAL));
    // The child ends: what it did is undone.
    scenario_touch("compared");
    scenario_child(child, 3);
    int after[COUNT] = { 5, 0, 32767, 32767, 1, 33 };
    for (int i = 0; i < COUNT; i++) same(after[i], value(i));
    // And our own.
    pid_t grandchild = must(fork());
    if (!grandchild) { operate(lone, 0, 2, SEM_UNDO); _exit(0); }
    scenario_child(grandchild, 0);
    same(0, semctl(lone, 0, GETVAL));
    // An undo value of 7 more than the largest does not fit.
    operate(set, 5, 32734, 0);
    struct sembuf b = { 5, -32761, SEM_UNDO };
    check(semop(set, &b, 1) != 0 && errno == ERANGE);
    b.sem_op = -32760;
    must(semop(set, &b, 1));
    must(semctl(lone, 0, IPC_RMID)); must(semctl(set, 0, IPC_RMID));
    return scenario_end();
}

// System V shared memory: ids, keys, contents, modes and attachments of every kind are as they were.
#include "systemv.h"
enum { SIZE = 70000, PAGES = 18 };
struct segment { int id; key_t key; struct shmid_ds state; };
static struct segment keyed, hidden, loose, removed, other;
static key_t some_key(int n) { return 0x43000000 | (getpid() & 0xffff) << 4 | n; }
static void make(struct segment *s, key_t key, size_t size, int mode) {
    s->id = must(shmget(key, size, IPC_CREAT | IPC_EXCL | mode));
    s->key = key;
}
static void note(struct segment *s) { must(shmctl(s->id, IPC_STAT, &s->state)); }
static char start[64];
static const char *started(void) {      // field 22: another process has another
    static char line[1024], *p;
    FILE *f = fopen("/proc/self/stat", "re");
    fgets(line, sizeof line, f); fclose(f);
    p = strrchr(line, ')');
    for (int i = 0; i < 20; i++) p = strchr(p + 1, ' ');
    p[20] = 0;
    return p;
}
static void compare(struct segment *s) {
    struct shmid_ds now;
    must(shmctl(s->id, IPC_STAT, &now));
    same(s->state.shm_perm.__key, now.shm_perm.__key);
    same(s->state.shm_perm.mode, now.shm_perm.mode);
    same(s->state.shm_perm.uid, now.shm_perm.uid); same(s->state.shm_perm.gid, now.shm_perm.gid);
    same(s->state.shm_perm.cuid, now.shm_perm.cuid); same(s->state.shm_perm.cgid, now.shm_perm.cgid);
    same(s->state.shm_segsz, now.shm_segsz);
    same(s->state.shm_cpid, now.shm_cpid);
    same(s->state.shm_nattch, now.shm_nattch);
    // A checkpoint attaches and detaches nothing, where somebody has it attached.
    if (!strcmp(start, started()) && s != &loose) { same(s->state.shm_lpid, now.shm_lpid); same(s->state.shm_atime, now.shm_atime); same(s->state.shm_dtime, now.shm_dtime); }
    if (s->key) same(s->id, shmget(s->key, 0, 0));
}
int main(void) {
    make(&keyed, some_key(1), SIZE, 0640);
    make(&hidden, IPC_PRIVATE, 4096 * 4, 0600);
    make(&loose, some_key(2), 8192, 0600);          // attached by nobody
    make(&removed, some_key(3), 12288, 0600);
    make(&other, some_key(4), 4096, 0600);          // only a child has it
    char *a = must(shmat(keyed.id, NULL, 0)), *b = must(shmat(keyed.id, NULL, SHM_RDONLY));
    scenario_fill(a, SIZE & ~7, 1);
    char *h = must(shmat(hidden.id, (void *)0x510000000000, 0));
    scenario_fill(h, 16384, 2);
    // Pieces of one attachment: a hole, and a part that can't be written.
    must(munmap(h + 4096, 4096));
    must(mprotect(h + 8192, 4096, PROT_READ));
    char *l = must(shmat(loose.id, NULL, 0));
    scenario_fill(l, 8192, 3);
    must(shmdt(l));
    char *r = must(shmat(removed.id, NULL, 0));
    scenario_fill(r, 12288, 4);
    must(shmctl(removed.id, IPC_RMID, NULL));
    removed.key = IPC_PRIVATE;
    // A mode that would forbid its owner to attach it now.
    struct shmid_ds d;
    must(shmctl(keyed.id, IPC_STAT, &d));
    d.shm_perm.mode = 0444;
    must(shmctl(keyed.id, IPC_SET, &d));
    pid_t child = must(fork());
    if (!child) {
        int *o = must(shmat(other.id, NULL, 0));
        must(shmdt(b));
        *o = 77;
        scenario_touch("child");
        scenario_await("go");
        same(77, *o);
        check(scenario_compare(a, SIZE & ~7, 1) < 0);
        scenario_touch("compared");
        while (__atomic_load_n(o, __ATOMIC_ACQUIRE) != 78) usleep(1000);
        ((char *)a)[16] = 'c';
        __atomic_store_n(o, 79, __ATOMIC_RELEASE);
        scenario_leave(5);
    }
    scenario_await("child");
    snprintf(start, sizeof start, "%s", started());
    note(&keyed); note(&hidden); note(&loose); note(&removed); note(&other);
    scenario_wait();
    compare(&keyed); compare(&hidden); compare(&loose); compare(&removed); compare(&other);
    check(scenario_compare(a, SIZE & ~7, 1) < 0);
    check(scenario_compare(b, SIZE & ~7, 1) < 0);
    check(scenario_compare(r, 12288, 4) < 0);
    check(mprotect(b, 4096, PROT_READ | PROT_WRITE) != 0 && errno == EACCES);
    // It is one memory, in both processes.
    scenario_await("compared");
    a[8] = 'w'; same('w', b[8]);
    int *o = must(shmat(other.id, NULL, 0));
    __atomic_store_n(o, 78, __ATOMIC_RELEASE);
    while (__atomic_load_n(o, __ATOMIC_ACQUIRE) != 79) usleep(1000);
    same('c', b[16]);
    check(scenario_compare(h, 4096, 2) < 0);
    check(mincore(h + 4096, 4096, (unsigned char[1]){0}) != 0 && errno == ENOMEM);
    char *again = must(shmat(hidden.id, NULL, SHM_RDONLY));
    check(scenario_compare(again, 16384, 2) < 0);
    must(shmdt(again));
    must(shmdt(h));                                  // all pieces go at once
    check(mincore(h + 12288, 4096, (unsigned char[1]){0}) != 0 && errno == ENOMEM);
    l = must(shmat(loose.id, NULL, 0));
    check(scenario_compare(l, 8192, 3) < 0);
    scenario_child(child, 5);
    must(shmdt(a)); must(shmdt(b)); must(shmdt(r));
    check(shmctl(removed.id, IPC_STAT, &d) != 0);    // gone with the last attachment
    same(0, (must(shmctl(keyed.id, IPC_STAT, &d)), d.shm_nattch));
    must(shmctl(keyed.id, IPC_RMID, NULL)); must(shmctl(hidden.id, IPC_RMID, NULL)); must(shmctl(loose.id, IPC_RMID, NULL)); must(shmctl(other.id, IPC_RMID, NULL));
    return scenario_end();
}

// System V IPC and POSIX message queues in an ipc namespace that only a part of the tree lives in, with the same ids and names as outside.
// With "users" the part is root of a user namespace of its own; with "pids" it lives in a pid namespace, too.
#include "namespaces-users.h"
#include "systemv.h"
#include <mqueue.h>
#undef shmget
#undef semget
#undef msgget

static char queue[64], unnamed[64];
static int key;

struct objects { int memory, spare, removed, set, queue; char *at, *last; mqd_t posix, unnamed; pid_t maker, sender, mate; };
static void choose(const char *kind, int id) {
    char path[64], text[16];
    snprintf(path, sizeof path, "/proc/sys/kernel/%s_next_id", kind); snprintf(text, sizeof text, "%d", id);
    put(path, text);
}
// `seed`: what the contents are made of; `like`: whose ids the new ones get.
static struct objects make(int seed, const struct objects *like) {
    struct objects o = { .maker = getpid() };
    struct mq_attr a = { .mq_maxmsg = 3, .mq_msgsize = 16 };
    if (like) choose("shm", like->memory);
    o.memory = must(shmget(IPC_PRIVATE, 8192, 0600)); o.spare = must(shmget(key + seed, 4096, IPC_CREAT | IPC_EXCL | 0640)); o.removed = must(shmget(IPC_PRIVATE, 4096, 0600));
    if (like) choose("sem", like->set);
    o.set = must(semget(IPC_PRIVATE, 3, 0600));
    if (like) choose("msg", like->queue);
    o.queue = must(msgget(IPC_PRIVATE, 0600));
    if (!like) { systemv_note('p', queue); systemv_noted('m', o.memory); systemv_noted('m', o.spare); systemv_noted('s', o.set); systemv_noted('q', o.queue); }
    else { same(like->memory, o.memory); same(like->set, o.set); same(like->queue, o.queue); }
    char *spare = must(shmat(o.spare, NULL, 0));
    o.at = must(shmat(o.memory, NULL, 0)); o.last = must(shmat(o.removed, NULL, 0));
    scenario_fill(o.at, 8192, seed); scenario_fill(o.last, 4096, seed + 1); scenario_fill(spare, 4096, seed + 2);
    must(shmdt(spare)); must(shmctl(o.removed, IPC_RMID, NULL));
    must(semctl(o.set, 0, SETVAL, seed));
    struct { long type; char text[8]; } m = { seed, "system" };
    // By somebody who is gone.
    if (!(o.sender = must(fork()))) _exit(msgsnd(o.queue, &m, 7, 0) != 0);
    scenario_child(o.sender, 0);
    o.posix = must(mq_open(queue, O_RDWR | O_CREAT | O_EXCL, 0600, &a)); o.unnamed = must(mq_open(unnamed, O_RDWR | O_CREAT | O_EXCL, 0600, &a));
    must(mq_unlink(unnamed));
    must(mq_send(o.posix, (char *)&seed, sizeof seed, 3));
    must(mq_notify(o.unnamed, &(struct sigevent) { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = seed }));
    o.mate = must(fork());
    if (o.mate) return o;
    struct sembuf up = { 1, seed, SEM_UNDO };
    must(semop(o.set, &up, 1));
    char name[32];
    snprintf(name, sizeof name, "mate-%d", seed);
    scenario_touch(name);
    snprintf(name, sizeof name, "compared-%d", seed);
    scenario_await(name);
    check(scenario_compare(o.at, 8192, seed) < 0);
    scenario_leave(5);
}
static int told;
static void notified(int signal, siginfo_t *info, void *context) { (void)signal; (void)context; told = info->si_value.sival_int; }
static void compare(struct objects o, int seed) {
    struct shmid_ds d, e; struct msqid_ds q;
    struct { long type; char text[8]; } m = { 0, "" };
    char name[32], text[16];
    int value = 0; unsigned priority = 0;
    check(scenario_compare(o.at, 8192, seed) < 0); check(scenario_compare(o.last, 4096, seed + 1) < 0);
    must(shmctl(o.memory, IPC_STAT, &d)); same(o.maker, d.shm_cpid); same(2, d.shm_nattch); same(geteuid(), d.shm_perm.cuid); same(getegid(), d.shm_perm.gid); same(0600, d.shm_perm.mode);
    must(shmctl(o.removed, IPC_STAT, &e)); same(01600, e.shm_perm.mode); same(2, e.shm_nattch);
    same(o.spare, shmget(key + seed, 4096, 0640));
    char *spare = must(shmat(o.spare, NULL, SHM_RDONLY)); check(scenario_compare(spare, 4096, seed + 2) < 0); must(shmdt(spare));
    same(seed, semctl(o.set, 0, GETVAL)); same(o.maker, semctl(o.set, 0, GETPID)); same(seed, semctl(o.set, 1, GETVAL));
    must(msgctl(o.queue, IPC_STAT, &q)); same(o.sender, q.msg_lspid); same(geteuid(), q.msg_perm.uid);
    same(7, msgrcv(o.queue, &m, 8, 0, IPC_NOWAIT)); same(seed, m.type); same(0, strcmp(m.text, "system"));
    same(sizeof value, mq_receive(o.posix, text, 16, &priority)); memcpy(&value, text, sizeof value); same(seed, value); same(3, priority);
    mqd_t again = must(mq_open(queue, O_RDWR)); must(mq_send(again, "x", 1, 0)); same(1, mq_receive(o.posix, text, 16, NULL)); must(mq_close(again));
    must(mq_send(o.unnamed, "y", 1, 0)); same(seed, told);
    snprintf(name, sizeof name, "compared-%d", seed); scenario_touch(name);
    scenario_child(o.mate, 5);
    same(0, semctl(o.set, 1, GETVAL));
    must(shmctl(o.memory, IPC_RMID, NULL)); must(shmctl(o.spare, IPC_RMID, NULL)); must(semctl(o.set, 0, IPC_RMID)); must(msgctl(o.queue, IPC_RMID, NULL)); must(mq_unlink(queue));
}
int main(int argc, char **argv) {
    struct sigaction action = { .sa_sigaction = notified, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &action, NULL);
    key = 0x51000000 + getpid() * 16;
    snprintf(queue, sizeof queue, "/ckpt-part-%d", getpid()); snprintf(unnamed, sizeof unnamed, "/ckpt-unnamed-%d", getpid());
    struct objects outside = make(4, NULL);
    scenario_await("mate-4");
    pid_t part = must(fork());
    if (!part) {
        // What the others have is not to be seen from inside.
        must(shmdt(outside.at)); must(shmdt(outside.last)); must(mq_close(outside.posix)); must(mq_close(outside.unnamed));
        int flags = CLONE_NEWIPC | (argc > 1 && strstr(argv[1], "pids") ? CLONE_NEWPID : 0);
        if (argc > 1 && strstr(argv[1], "users")) enter_alone(flags); else must(unshare(flags));
        pid_t first = flags & CLONE_NEWPID ? must(fork()) : 0;
        if (first) { scenario_child(first, 7); scenario_leave(7); }
        struct objects inside = make(9, &outside);
        scenario_await("mate-9");
        scenario_touch("inside");
        scenario_await("go");
        compare(inside, 9);
        scenario_leave(7);
    }
    scenario_await("inside");
    scenario_wait();
    compare(outside, 4);
    scenario_child(part, 7);
    return scenario_end();
}

// Runs inside applications, on the caller's stack: no libc, no lock, no allocation.
// Which System V objects the session has asked for.  The kernel notes only the pids that used one last, and pids are used again; so are ids, by restarts.
#include "preload_boot.h"
#include "ckpt_ipc.h"

#define EXPORT __attribute__((visibility("default")))
#define HIDDEN __attribute__((visibility("hidden")))
extern int interpose_fail(int code);

union state { struct ckpt_segment_state segment; struct ckpt_semaphores_state semaphores; struct ckpt_queue_state queue; uint64_t room[32]; };
static long control(enum ckpt_ipc_kind kind, int32_t id, long command, void *buffer) {
    return kind == CKPT_IPC_SEMAPHORES ? ckpt_syscall(CKPT_SYS_semctl, id, 0, command, (long)buffer, 0, 0)
         : ckpt_syscall(kind == CKPT_IPC_SEGMENT ? CKPT_SYS_shmctl : CKPT_SYS_msgctl, id, command, (long)buffer, 0, 0, 0);
}
// The object with this id, whoever may read it; 0: there is none.  `what` is 0 where the kernel does not tell.
static _Bool find(enum ckpt_ipc_kind kind, int32_t id, uint32_t *what, uint32_t *changed) {
    enum { STATUS = 2, INVALID = -22, REMOVED = -43 };
    static const uint8_t any[] = { 0, 15, 20, 13 };     // SHM_STAT_ANY, SEM_STAT_ANY, MSG_STAT_ANY: by the id's lower part
    union state s;
    *what = *changed = 0;
    long r = control(kind, id, any[kind], &s);
    if (r >= 0 && r != id) return 0;
    if (r < 0) { r = control(kind, id, STATUS, &s); if (r < 0) return r != INVALID && r != REMOVED; }
    *what = ckpt_ipc_what(kind, s.segment.permission.key, kind == CKPT_IPC_SEGMENT ? s.segment.size : s.semaphores.count);
    *changed = (uint32_t)(kind == CKPT_IPC_SEGMENT ? s.segment.changed : kind == CKPT_IPC_SEMAPHORES ? s.semaphores.changed : s.queue.changed);
    return 1;
}
static uint32_t own_namespace(void) { return ckpt_namespace_number("/proc/thread-self/ns/ipc"); }

// Where all places are taken, that of an object which has been removed; of another namespace nobody here can say that.
static void note(struct ckpt_session *s, enum ckpt_ipc_kind kind, int32_t id) {
    uint32_t what, changed, place = own_namespace();
    if (!find(kind, id, &what, &changed) || ckpt_note_ipc(s, kind, ckpt_ipc_object(place, id), what, changed)) return;
    for (int i = 0; i < CKPT_SESSION_IPC; i++) {
        struct ckpt_ipc_note *n = &s->ipc_notes[kind - 1][__atomic_fetch_add(&s->ipc_next, 1, __ATOMIC_RELAXED) % CKPT_SESSION_IPC];
        uint64_t old = ckpt_load64(&n->object);
        uint32_t its, date;
        if (old >> 32 != place || (find(kind, (int32_t)old - 1, &its, &date) && (n->what == 0 || its == n->what))) continue;
        if (ckpt_cas64(&n->object, old, ckpt_ipc_object(place, id))) { n->what = what; n->changed = changed; return; }
    }
    __atomic_fetch_or(&s->ipc_unseen, 1u << kind, __ATOMIC_RELAXED);
}
static void forget(struct ckpt_session *s, enum ckpt_ipc_kind kind, uint64_t object) {
    for (int i = 0; i < CKPT_SESSION_IPC; i++) ckpt_cas64(&s->ipc_notes[kind - 1][i].object, object, 0);
}

// A checkpoint between the call and the note would leave the object behind, or take another for it; so no signal comes in between.
static struct ckpt_session *begin(uint64_t *mask) {
    struct ckpt_session *s = ckpt_runtime()->session;
    uint64_t all = ~0ull;
    if (s) ckpt_rt_sigprocmask(0, &all, mask);
    return s;
}
static long end(struct ckpt_session *s, uint64_t *mask, long r) {
    if (s) ckpt_rt_sigprocmask(2, mask, 0);
    return r < 0 ? interpose_fail((int)-r) : r;
}
static long ask(enum ckpt_ipc_kind kind, long number, long key, long b, long c) {
    uint64_t mask = 0;
    struct ckpt_session *s = begin(&mask);
    long id = ckpt_syscall(number, key, b, c, 0, 0, 0);
    if (s && id >= 0) note(s, kind, (int32_t)id);
    return end(s, &mask, id);
}
// What removes an object, or dates it.
enum { REMOVE = 0, SET = 1, SET_VALUE = 16, SET_ALL = 17 };
static long change(enum ckpt_ipc_kind kind, int32_t id, int command, long number, long b, long c, long d) {
    _Bool removes = command == REMOVE;
    if (!removes && command != SET && (kind != CKPT_IPC_SEMAPHORES || (command != SET_VALUE && command != SET_ALL))) return end(0, 0, ckpt_syscall(number, id, b, c, d, 0, 0));
    uint64_t mask = 0, object = 0;
    struct ckpt_session *s = begin(&mask);
    if (s) object = ckpt_ipc_object(own_namespace(), id);
    long r = ckpt_syscall(number, id, b, c, d, 0, 0);
    // A removed segment that the session still has attached is found by that.
    if (s && r >= 0 && removes) forget(s, kind, object);
    if (s && r >= 0 && !removes) for (int i = 0; i < CKPT_SESSION_IPC; i++) if (ckpt_load64(&s->ipc_notes[kind - 1][i].object) == object) { note(s, kind, id); break; }
    return end(s, &mask, r);
}

// long, since syscall(3) comes here too, and returns all of the register.
HIDDEN long interpose_shmget(int key, size_t size, int flags) { return ask(CKPT_IPC_SEGMENT, CKPT_SYS_shmget, key, (long)size, flags); }
HIDDEN long interpose_semget(int key, int count, int flags) { return ask(CKPT_IPC_SEMAPHORES, CKPT_SYS_semget, key, count, flags); }
HIDDEN long interpose_msgget(int key, int flags) { return ask(CKPT_IPC_QUEUE, CKPT_SYS_msgget, key, flags, 0); }
// Whose id it has from somebody else.
HIDDEN long interpose_shmat(int id, long address, int flags) {
    uint64_t mask = 0;
    struct ckpt_session *s = begin(&mask);
    long at = ckpt_syscall(CKPT_SYS_shmat, id, address, flags, 0, 0, 0);
    if (s && at >= 0) note(s, CKPT_IPC_SEGMENT, id);
    return end(s, &mask, at);
}
HIDDEN long interpose_shmctl(int id, int command, long buffer) { return change(CKPT_IPC_SEGMENT, id, command, CKPT_SYS_shmctl, command, buffer, 0); }
HIDDEN long interpose_semctl(int id, int number, int command, long value) { return change(CKPT_IPC_SEMAPHORES, id, command, CKPT_SYS_semctl, number, command, value); }
HIDDEN long interpose_msgctl(int id, int command, long buffer) { return change(CKPT_IPC_QUEUE, id, command, CKPT_SYS_msgctl, command, buffer, 0); }
#define ENTRY(name) EXPORT __typeof__(interpose_##name) name __attribute__((alias("interpose_" #name)));
ENTRY(shmget) ENTRY(semget) ENTRY(msgget) ENTRY(shmat) ENTRY(shmctl) ENTRY(semctl) ENTRY(msgctl)

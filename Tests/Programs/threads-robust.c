// Robust futex lists: a thread, and a process, that end with a mutex held tell the next owner.
#include "scenario.h"
struct shared { pthread_mutex_t mutex[2]; volatile int held, die; };
static struct shared *s;
static void *holder(void *unused) {
    (void)unused;
    void *head = NULL, *after = NULL;
    size_t length;
    syscall(SYS_get_robust_list, 0, &head, &length);
    must0(pthread_mutex_lock(&s->mutex[0]));
    __atomic_add_fetch(&s->held, 1, __ATOMIC_SEQ_CST);
    while (!s->die) usleep(1000);
    syscall(SYS_get_robust_list, 0, &after, &length);
    check(head && head == after);
    return NULL;
}
int main(void) {
    s = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    for (int i = 0; i < 2; i++) pthread_mutex_init(&s->mutex[i], &a);
    pthread_t thread;
    must0(pthread_create(&thread, NULL, holder, NULL));
    pid_t child = must(fork());
    if (!child) {
        must0(pthread_mutex_lock(&s->mutex[1]));
        __atomic_add_fetch(&s->held, 1, __ATOMIC_SEQ_CST);
        while (!s->die) usleep(1000);
        _exit(5);
    }
    while (s->held < 2) usleep(1000);
    scenario_wait();
    same(EBUSY, pthread_mutex_trylock(&s->mutex[0]));
    same(EBUSY, pthread_mutex_trylock(&s->mutex[1]));
    s->die = 1;
    for (int i = 0; i < 2; i++) {
        same(EOWNERDEAD, pthread_mutex_lock(&s->mutex[i]));
        same(0, pthread_mutex_consistent(&s->mutex[i]));
        same(0, pthread_mutex_unlock(&s->mutex[i]));
    }
    pthread_join(thread, NULL);
    scenario_child(child, 5);
    return scenario_end();
}

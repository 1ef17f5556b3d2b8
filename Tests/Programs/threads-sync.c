// glibc's synchronisation goes on: contended mutexes of every type, condition variables, semaphores, barriers, rwlocks, joins.
#include "scenario.h"
#include <semaphore.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, recursive, checked, pi;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static volatile int up, stage, woken, locked, read_locked, posted, passed, timed;
#define arrive() __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST)
static void *waiter(void *u) { pthread_mutex_lock(&lock); arrive(); while (stage < 1) pthread_cond_wait(&changed, &lock); woken++; pthread_mutex_unlock(&lock); return u; }
static void *contender(void *u) { arrive(); pthread_mutex_lock(&recursive); locked++; pthread_mutex_unlock(&recursive); return u; }
static void *inheritor(void *u) { arrive(); pthread_mutex_lock(&pi); locked++; pthread_mutex_unlock(&pi); return u; }
static void *reader(void *u) { arrive(); pthread_rwlock_rdlock(&rw); __atomic_add_fetch(&read_locked, 1, __ATOMIC_SEQ_CST); pthread_rwlock_unlock(&rw); return u; }
static void *taker(void *u) { arrive(); sem_wait(&semaphore); __atomic_add_fetch(&posted, 1, __ATOMIC_SEQ_CST); return u; }
static void *meeter(void *u) { arrive(); pthread_barrier_wait(&barrier); __atomic_add_fetch(&passed, 1, __ATOMIC_SEQ_CST); return u; }
static void *joiner(void *u) { arrive(); void *r; pthread_join(*(pthread_t *)u, &r); return r; }
static void *sleeper(void *u) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += 1;
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&m);
    arrive();
    timed = pthread_cond_timedwait(&c, &m, &t);
    pthread_mutex_unlock(&m);
    return u;
}
int main(void) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checked, &a);
    pthread_mutexattr_t b;
    pthread_mutexattr_init(&b);
    pthread_mutexattr_setprotocol(&b, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&pi, &b);
    pthread_barrier_init(&barrier, NULL, 3);
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&recursive);
    pthread_mutex_lock(&recursive);
    pthread_mutex_lock(&checked);
    pthread_mutex_lock(&pi);
    pthread_rwlock_wrlock(&rw);
    pthread_t t[12];
    void *(*bodies[])(void *) = { waiter, waiter, contender, inheritor, reader, reader, taker, meeter, meeter, sleeper };
    for (int i = 0; i < 10; i++) must0(pthread_create(&t[i], NULL, bodies[i], (void *)(long)i));
    must0(pthread_create(&t[10], NULL, joiner, &t[6]));
    while (up < 11) usleep(1000);
    usleep(30000);
    scenario_wait();
    same(EDEADLK, pthread_mutex_lock(&checked));        // it knows its owner by tid
    same(0, pthread_mutex_unlock(&checked));
    same(0, pthread_mutex_trylock(&recursive));
    for (int i = 0; i < 3; i++) same(0, pthread_mutex_unlock(&recursive));
    same(EPERM, pthread_mutex_unlock(&recursive));
    same(0, pthread_mutex_unlock(&pi));
    same(0, pthread_rwlock_unlock(&rw));
    pthread_mutex_lock(&lock);
    stage = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    sem_post(&semaphore);
    pthread_barrier_wait(&barrier);
    void *r;
    must0(pthread_join(t[10], &r));
    same(6, (long)r);
    for (int i = 0; i < 10; i++) if (i != 6) { must0(pthread_join(t[i], &r)); same(i, (long)r); }
    same(2, woken);
    same(2, locked);
    same(2, read_locked);
    same(1, posted);
    same(2, passed);
    same(ETIMEDOUT, timed);
    return scenario_end();
}

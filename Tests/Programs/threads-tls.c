// Thread-local variables, thread-specific data with destructors, errno, pthread_self and stack addresses.
#include "scenario.h"
enum { N = 6 };
static __thread int number = -1;
static __thread uint64_t block[64];
static pthread_key_t key;
static volatile int up, destroyed, flag;
static void destroy(void *value) { if ((long)value >= 100) __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST); }
static void *body(void *argument) {
    long i = (long)argument;
    int local = 7 * i;
    volatile int *where = &local;
    number = i;
    scenario_fill(block, sizeof block, i);
    pthread_setspecific(key, (void *)(100 + i));
    errno = 60 + i;
    pthread_t self = pthread_self();
    uint64_t base, after;
    syscall(SYS_arch_prctl, 0x1003, &base);
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    while (!flag) __builtin_ia32_pause();
    same(60 + i, errno);
    syscall(SYS_arch_prctl, 0x1003, &after);
    same(base, after);
    same(i, number);
    same(-1, scenario_compare(block, sizeof block, i));
    same(100 + i, pthread_getspecific(key));
    check(pthread_equal(self, pthread_self()));
    check(where == &local && local == 7 * i);
    return (void *)(i * i);
}
int main(void) {
    pthread_t threads[N];
    pthread_key_create(&key, destroy);
    number = 55;
    for (long i = 0; i < N; i++) must0(pthread_create(&threads[i], NULL, body, (void *)i));
    while (up < N) usleep(1000);
    scenario_wait();
    flag = 1;
    same(55, number);
    for (long i = 0; i < N; i++) { void *r; must0(pthread_join(threads[i], &r)); same(i * i, (long)r); }
    same(N, destroyed);
    return scenario_end();
}

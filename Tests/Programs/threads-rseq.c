// Restartable sequences: libc's area stays registered, the kernel keeps the CPU number in it.
#include "scenario.h"
#include <sys/rseq.h>
static volatile int up, flag;
static void verify(void) {
    volatile struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    for (int cpu = 0; cpu < 64; cpu++) {
        if (!CPU_ISSET(cpu, &all)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        sched_yield();
        unsigned now = ~0u;
        syscall(SYS_getcpu, &now, NULL, NULL);
        same(now, area->cpu_id);
        same(cpu, area->cpu_id);
    }
    sched_setaffinity(0, sizeof all, &all);
    // It is registered: registering another is refused, and the same one is known.
    same(-1, syscall(SYS_rseq, area, __rseq_size, 0, RSEQ_SIG));
    check(errno == EBUSY || errno == EINVAL);
}
static void *body(void *unused) {
    (void)unused;
    verify();
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    while (!flag) usleep(1000);
    verify();
    return NULL;
}
int main(void) {
    pthread_t threads[3];
    check(__rseq_size >= 20);
    for (int i = 0; i < 3; i++) must0(pthread_create(&threads[i], NULL, body, NULL));
    while (up < 3) usleep(1000);
    verify();
    scenario_wait();
    flag = 1;
    verify();
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    return scenario_end();
}

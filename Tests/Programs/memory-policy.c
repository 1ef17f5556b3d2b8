// NUMA policies of a task, of another task and of mappings; merging of equal pages (KSM) for the whole process.
#include "scenario.h"
enum { P = 4096, DEFAULT = 0, PREFERRED = 1, BIND = 2, INTERLEAVE = 3, LOCAL = 4, STATIC = 1 << 15, MERGE = 67, MERGED = 68 };
static long policy(void *at) {
    int mode = -1;
    unsigned long nodes[16] = { 0 };
    long r = syscall(SYS_get_mempolicy, &mode, nodes, 1024, at, at ? 2 : 0);
    return r < 0 ? -errno : mode << 16 | (long)nodes[0];
}
static unsigned long node = 1;
static long other[2];
static pthread_barrier_t barrier;
static void *thread(void *p) {
    (void)p;
    syscall(SYS_set_mempolicy, BIND, &node, 64);
    other[0] = policy(NULL);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    other[1] = policy(NULL);
    return NULL;
}
int main(void) {
    char *m[4];
    for (int i = 0; i < 4; i++) m[i] = must(mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, i == 3 ? MAP_SHARED | MAP_ANONYMOUS : MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), mprotect(m[i] + 3 * P, P, PROT_NONE);
    long before[6];
    syscall(SYS_mbind, m[0], P, BIND | STATIC, &node, 64, 0);
    syscall(SYS_mbind, m[1], P, LOCAL, NULL, 0, 0);
    syscall(SYS_mbind, m[3], P, PREFERRED, &node, 64, 0);
    for (int i = 0; i < 4; i++) before[i] = policy(m[i]), m[i][0] = 1;
    syscall(SYS_set_mempolicy, INTERLEAVE, &node, 64);
    before[4] = policy(NULL);
    before[2] = policy(m[2]);
    prctl(MERGE, 1, 0, 0, 0);
    before[5] = prctl(MERGED, 0, 0, 0, 0);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t t;
    must0(pthread_create(&t, NULL, thread, NULL));
    pthread_barrier_wait(&barrier);
    scenario_wait();
    pthread_barrier_wait(&barrier);
    must0(pthread_join(t, NULL));
    same(other[0], other[1]);
    for (int i = 0; i < 4; i++) same(before[i], policy(m[i]));
    same(before[4], policy(NULL));
    same(before[5], prctl(MERGED, 0, 0, 0, 0));
    syscall(SYS_set_mempolicy, DEFAULT, NULL, 0);
    if (before[0] > 0) { same(before[0], policy(m[0])); same(0, policy(m[2])); }     // the one has a policy of its own, the other had its task's
    return scenario_end();
}

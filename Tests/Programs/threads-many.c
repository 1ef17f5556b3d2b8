// Many threads: argument: how many.
#include "scenario.h"
static volatile int up, flag;
static void *body(void *argument) {
    pid_t tid = syscall(SYS_gettid);
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    while (!flag) usleep(20000);
    same(tid, syscall(SYS_gettid));
    return (void *)((long)argument * 3);
}
int main(int argc, char **argv) {
    int n = atoi(argv[1]);
    pthread_t *threads = malloc(n * sizeof *threads);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (long i = 0; i < n; i++) must0(pthread_create(&threads[i], &small, body, (void *)i));
    while (up < n) usleep(1000);
    scenario_wait();
    flag = 1;
    for (long i = 0; i < n; i++) { void *r; must0(pthread_join(threads[i], &r)); same(i * 3, (long)r); }
    return scenario_end();
}

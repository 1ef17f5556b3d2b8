// What each thread has for itself: id, name, signal mask, alternate stack, timer slack, nice value, affinity.
#include "scenario.h"
enum { N = 5 };
static volatile int up, flag;
struct own { pid_t tid; char name[16]; sigset_t mask; stack_t stack; long slack; int nice, policy; cpu_set_t cpus; };
static void take(struct own *o) {
    memset(o, 0, sizeof *o);
    o->tid = syscall(SYS_gettid);
    prctl(PR_GET_NAME, o->name);
    pthread_sigmask(SIG_BLOCK, NULL, &o->mask);
    sigaltstack(NULL, &o->stack);
    o->slack = prctl(PR_GET_TIMERSLACK);
    o->nice = getpriority(PRIO_PROCESS, o->tid);
    o->policy = sched_getscheduler(0);
    sched_getaffinity(0, sizeof o->cpus, &o->cpus);
}
static void compare(const struct own *a) {
    struct own b;
    take(&b);
    same(a->tid, b.tid);
    check(!strcmp(a->name, b.name));
    for (int i = 1; i < 65; i++) same(i * 2 + sigismember(&a->mask, i), i * 2 + sigismember(&b.mask, i));
    same(a->stack.ss_sp, b.stack.ss_sp);
    same(a->stack.ss_flags, b.stack.ss_flags);
    same(a->stack.ss_size, b.stack.ss_size);
    same(a->slack, b.slack);
    same(a->nice, b.nice);
    same(a->policy, b.policy);
    check(CPU_EQUAL(&a->cpus, &b.cpus));
}
static __thread char *low, *high;
static __thread volatile int handled;
static void handler(int signal) { char here; (void)signal; handled = &here > low && &here < high ? 1 : -1; }
static void *body(void *argument) {
    long i = (long)argument;
    char name[16];
    snprintf(name, sizeof name, "worker %ld", i);
    prctl(PR_SET_NAME, name);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, 34 + i);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    stack_t stack = { .ss_sp = malloc(65536), .ss_size = 16384 + 4096 * i };
    low = stack.ss_sp;
    high = low + stack.ss_size;
    must(sigaltstack(&stack, NULL));
    prctl(PR_SET_TIMERSLACK, 60000 + 1000 * i);
    setpriority(PRIO_PROCESS, 0, i);
    if (i == 3) { struct sched_param p = { 0 }; must(sched_setscheduler(0, SCHED_BATCH, &p)); }
    if (i == 4) { struct sched_param p = { 0 }; must(sched_setscheduler(0, SCHED_IDLE, &p)); }
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    if (i == 2) for (int c = 0; c < CPU_SETSIZE; c++) if (CPU_ISSET(c, &cpus)) { CPU_ZERO(&cpus); CPU_SET(c, &cpus); break; }
    must(sched_setaffinity(0, sizeof cpus, &cpus));
    struct own before;
    take(&before);
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    while (!flag) usleep(1000);
    compare(&before);
    pthread_kill(pthread_self(), SIGUSR1);
    same(1, handled);
    return NULL;
}
int main(void) {
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
    sigaction(SIGUSR1, &action, NULL);
    pthread_t threads[N];
    for (long i = 0; i < N; i++) must0(pthread_create(&threads[i], NULL, body, (void *)i));
    while (up < N) usleep(1000);
    struct own before;
    take(&before);
    scenario_wait();
    compare(&before);
    flag = 1;
    for (int i = 0; i < N; i++) pthread_join(threads[i], NULL);
    return scenario_end();
}

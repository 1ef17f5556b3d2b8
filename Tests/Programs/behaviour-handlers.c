// Signals of its own all the time: checkpoints meet its handlers, their entries and their sigreturns, on small alternate stacks.
#include "scenario.h"
static __thread volatile long count;
static __thread int depth;
static volatile int stop;
static void handler(int s, siginfo_t *i, void *c) {
    (void)i; (void)c;
    volatile uint64_t local[8];
    long before = count;
    for (int k = 0; k < 8; k++) local[k] = scenario_mix(before + k);
    if (s == SIGUSR1 && depth++ == 0) pthread_kill(pthread_self(), SIGUSR2);
    for (int k = 0; k < 8; k++) check(local[k] == scenario_mix(before + k));
    if (s == SIGUSR1) depth--;
    if (s == SIGALRM) return;
    count++;
}
static void *body(void *u) {
    long size = sysconf(_SC_MINSIGSTKSZ) * 3 + 8192;
    char *memory = must(mmap(NULL, size + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(memory, 4096, 1);                         // what an overflow would hit
    stack_t stack = { .ss_sp = memory + 4096, .ss_size = size };
    if ((long)u % 2) must(sigaltstack(&stack, NULL));
    long sent = 0;
    double x = 1;
    while (!stop) {
        pthread_kill(pthread_self(), SIGUSR1);
        sent += 2;
        x = x * 1.0000001 + 0.5;
        if (count != sent) { scenario_differs("%ld handled of %ld", count, sent); break; }
    }
    same(-1, scenario_compare(memory, 4096, 1));
    return u;
}
int main(void) {
    struct sigaction a = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigaction(SIGUSR1, &a, NULL);
    a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigaction(SIGUSR2, &a, NULL);
    sigaction(SIGALRM, &a, NULL);
    struct itimerval every = { { 0, 1000 }, { 0, 1000 } };
    pthread_t t[4];
    for (long i = 0; i < 4; i++) must0(pthread_create(&t[i], NULL, body, (void *)i));
    setitimer(ITIMER_REAL, &every, NULL);
    scenario_touch("ready");
    while (!scenario_exists("go")) usleep(5000);
    stop = 1;
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    struct itimerval off = { { 0, 0 }, { 0, 0 } };
    setitimer(ITIMER_REAL, &off, NULL);
    return scenario_end();
}

// Checkpointed inside the application's own handler, on its alternate stack, and on the smallest stack a thread may have.
#include "scenario.h"
#include <limits.h>
static char alternate[32768];
static volatile int inside, flag, small_up, after_flags;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal; (void)context;
    char here;
    check(&here > alternate && &here < alternate + sizeof alternate);
    int value = info->si_value.sival_int;
    stack_t before, after;
    sigaltstack(NULL, &before);
    inside = 1;
    while (!flag) __builtin_ia32_pause();
    same(4711, value);
    same(4711, info->si_value.sival_int);
    sigaltstack(NULL, &after);
    same(before.ss_flags, after.ss_flags);
    same(SS_ONSTACK, after.ss_flags & SS_ONSTACK);
    inside = 2;
}
static void *busy(void *unused) {
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    must(sigaltstack(&stack, NULL));
    union sigval value = { .sival_int = 4711 };
    pthread_sigqueue(pthread_self(), SIGUSR1, value);
    same(2, inside);
    stack_t after;
    sigaltstack(NULL, &after);
    same(0, after.ss_flags);
    same(alternate, after.ss_sp);
    return unused;
}
static void *small(void *unused) {
    small_up = 1;
    while (!flag) __builtin_ia32_pause();
    return unused;
}
int main(void) {
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_ONSTACK | SA_SIGINFO };
    sigaction(SIGUSR1, &action, NULL);
    pthread_t a, b;
    must0(pthread_create(&a, NULL, busy, NULL));
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    must0(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN));
    must0(pthread_create(&b, &attributes, small, NULL));
    while (inside != 1 || !small_up) usleep(1000);
    scenario_wait();
    flag = 1;
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return scenario_end();
}

// An alternate stack as small as the kernel allows for a handler of one's own: nothing below it is touched.
#include "scenario.h"
static volatile int stop, up;
static void *body(void *u) {
    long size = sysconf(_SC_MINSIGSTKSZ) + 1024;
    char *memory = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(memory, 32768, 1);
    stack_t stack = { .ss_sp = memory + 32768, .ss_size = size };
    must(sigaltstack(&stack, NULL));
    up = 1;
    while (!stop) __builtin_ia32_pause();
    same(-1, scenario_compare(memory, 32768, 1));
    return u;
}
int main(void) {
    pthread_t t;
    must0(pthread_create(&t, NULL, body, NULL));
    while (!up) usleep(1000);
    scenario_wait();
    stop = 1;
    pthread_join(t, NULL);
    return scenario_end();
}

// The application's hook takes longer than its checkpoint is waited for: the next one, which another thread leads, does not meet it.
#include "scenario.h"
#include "../../runtime/preload-boot/include/ckpt.h"
enum { THREADS = 3 };
static volatile int ends, inside, met, stop;
static volatile unsigned long turns[THREADS];
static int hook(enum ckpt_hook_event event, void *argument) {
    if (event == CKPT_BEFORE) return 0;
    if (__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST) > 1) met = 1;
    char mark[512];
    memset(mark, event, sizeof mark);
    scenario_touch(event == CKPT_RESTARTED ? "in-restarted" : "in-continued");
    usleep(2500000);
    for (size_t i = 0; i < sizeof mark; i++) if (mark[i] != (char)event) met = 1;
    __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&ends, 1, __ATOMIC_SEQ_CST);
    return 0;
}
static void *turn(void *x) { for (long i = (long)x; !stop; turns[i]++) usleep(1000); return (void *)((long)x + 50); }

int main(void) {
    check(ckpt_set_hook && ckpt_set_hook(hook, NULL) == 1);
    pthread_t t[THREADS];
    for (long i = 0; i < THREADS; i++) must0(pthread_create(&t[i], NULL, turn, (void *)i));
    scenario_wait();
    for (int i = 0; i < 1000 && ends < 3; i++) usleep(10000);
    stop = 1;
    for (long i = 0; i < THREADS; i++) { void *end; must0(pthread_join(t[i], &end)); same(i + 50, (long)end); check(turns[i] > 0); }
    same(0, met); same(3, ends);
    return scenario_end();
}

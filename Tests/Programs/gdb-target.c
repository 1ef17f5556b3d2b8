// For the debugger: threads in functions of their own with known globals, statics, locals and registers.
#include "scenario.h"
struct node { int number; const char *text; struct node *next; };
struct node third = { 3, "third", NULL }, second = { 2, "second", &third }, first = { 1, "first", &second };
int global_counter = 4711;
static double static_ratio = 2.5;
static volatile int up, stop;
__attribute__((noinline)) static void spinning_function(int depth_left, int marker) {
    volatile int local_marker = marker;
    if (depth_left) { spinning_function(depth_left - 1, marker + 1); local_marker++; return; }
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    while (!stop) __builtin_ia32_pause();
    local_marker++;
}
__attribute__((noinline)) static void sleeping_function(const char *label) {
    char local_label[32];
    snprintf(local_label, sizeof local_label, "label %s", label);
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    while (!stop) usleep(100000);
    if (local_label[0] != 'l') abort();
}
static void *spinning_thread(void *u) { prctl(PR_SET_NAME, "spinner"); spinning_function(3, 100); return u; }
static void *sleeping_thread(void *u) { prctl(PR_SET_NAME, "sleeper"); sleeping_function("one"); return u; }
static void *blocked_thread(void *u) { prctl(PR_SET_NAME, "blocked"); int *p = u; char x; __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST); read(p[0], &x, 1); return u; }
__attribute__((noinline)) static void waiting_function(int argument) {
    char *heap_text = strdup("text on the heap");
    int local_sum = argument * 2 + (int)static_ratio;
    scenario_wait();
    if (local_sum < 0) puts(heap_text);
}
int main(void) {
    int p[2];
    must(pipe(p));
    pthread_t t[3];
    must0(pthread_create(&t[0], NULL, spinning_thread, NULL));
    must0(pthread_create(&t[1], NULL, sleeping_thread, NULL));
    must0(pthread_create(&t[2], NULL, blocked_thread, p));
    while (up < 3) usleep(1000);
    usleep(50000);
    waiting_function(20);
    stop = 1;
    write(p[1], "x", 1);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    return scenario_end();
}

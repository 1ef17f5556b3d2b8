// Three levels of fork, each process with its own pid, parent, memory and status.
#include "scenario.h"
static void grow(int depth, int number) {
    pid_t me = getpid(), parent = getppid(), children[2];
    int private = number * 1000 + depth;
    for (int i = 0; i < 2 && depth; i++) {
        children[i] = must(fork());
        if (!children[i]) { grow(depth - 1, number * 2 + i); }
    }
    char name[32];
    snprintf(name, sizeof name, "up-%d", number);
    scenario_touch(name);
    if (number == 1) {
        for (int i = 1; i < 16; i++) { snprintf(name, sizeof name, "up-%d", i); scenario_await(name); }
        scenario_wait();
    } else scenario_await("go");
    same(me, getpid());
    if (number > 1) same(parent, getppid());
    same(me, syscall(SYS_gettid));
    same(number * 1000 + depth, private);
    for (int i = 0; i < 2 && depth; i++) scenario_child(children[i], number * 2 + i);
    check(wait(NULL) == -1 && errno == ECHILD);
    if (number > 1) scenario_leave(number);
}
int main(void) { grow(3, 1); return scenario_end(); }

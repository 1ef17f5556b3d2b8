// A program that takes part in its checkpoints refuses the first and is told how each ends; its child takes part too, and may not have been asked yet when
// the first was refused.
#include "scenario.h"
#include "../../runtime/preload-boot/include/ckpt.h"
static volatile int seen[5], refuse;
static int hook(enum ckpt_hook_event event, void *argument) {
    if (argument != (void *)seen) _exit(95);
    seen[event]++;
    int answer = event == CKPT_BEFORE ? refuse : 0;
    refuse = 0;
    return answer;
}
static void judge(void) {
    same(2 + seen[CKPT_ABORTED], seen[CKPT_BEFORE]); check(seen[CKPT_ABORTED] <= 1); same(1, seen[CKPT_CONTINUED]); same(1, seen[CKPT_RESTARTED]);
}
int main(void) {
    check(ckpt_set_hook && ckpt_set_hook(hook, (void *)seen) == 1);
    pid_t child = must(fork());
    if (!child) { scenario_await("go"); judge(); scenario_leave(7); }
    refuse = 42;        // the child does not
    scenario_wait();
    judge(); same(1, seen[CKPT_ABORTED]);
    scenario_child(child, 7);
    return scenario_end();
}

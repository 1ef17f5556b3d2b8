// Two processes that hold several things that cannot be restored.
#include "scenario.h"
#include <linux/perf_event.h>
int main(void) {
    int file = must(open("/proc/1/status", O_RDONLY));
    struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK };
    int counter = syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
    if (counter < 0) counter = syscall(323, 1);         // userfaultfd
    if (counter < 0) counter = must(open("/proc/1/comm", O_RDONLY));
    pid_t child = must(fork());
    if (!child) {
        close(file);
        must(open("/proc/1/stat", O_RDONLY));
        must(syscall(SYS_keyctl, 0, -1, 1));                // KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING
        scenario_touch("keyed");
        scenario_await("go");
        scenario_leave(0);
    }
    scenario_await("keyed");
    char line[64];
    int out = must(open(scenario_path("held"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    write(out, line, snprintf(line, sizeof line, "%d %d %d %d", getpid(), file, counter, child));
    close(out);
    scenario_wait();
    scenario_child(child, 0);
    return scenario_end();
}

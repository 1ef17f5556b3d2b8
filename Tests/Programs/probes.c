// What a program has looked for and closed again is nothing that it holds: io_uring with its probe, userfaultfd, an asynchronous context, a performance counter.
#include "scenario.h"
#include <linux/io_uring.h>
#include <linux/perf_event.h>
int main(void) {
    struct io_uring_params p = { .flags = IORING_SETUP_CLAMP };
    int ring = syscall(SYS_io_uring_setup, 8, &p);
    if (ring >= 0) {
        static union { struct io_uring_probe probe; char room[sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op)]; } ops;
        must(syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, &ops, 256));
        void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING); check(at != MAP_FAILED);
        munmap(at, 4096); close(ring);
    }
    int fault = syscall(SYS_userfaultfd, 1); if (fault >= 0) close(fault);
    unsigned long context = 0; if (syscall(SYS_io_setup, 8, &context) == 0) must(syscall(SYS_io_destroy, context));
    struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK };
    int counter = syscall(SYS_perf_event_open, &a, 0, -1, -1, 0); if (counter >= 0) close(counter);
    scenario_wait();
    int again = syscall(SYS_io_uring_setup, 8, &p); same(ring >= 0, again >= 0); if (again >= 0) close(again);
    return scenario_end();
}

// A reader's end of file comes when the writer closes, also while a snapshot (which inherited the writer's end) is being written.
// Prints the longest wait of a reader; argument: MiB of memory.
#include "scenario.h"
int main(int argc, char **argv) {
    (void)argc;
    size_t size = strtoul(argv[1], NULL, 10) << 20;
    char *m = must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(m, size, 1);
    scenario_touch("ready");
    double worst = 0;
    while (!scenario_exists("go")) {
        int p[2], q[2];
        must(pipe(p));
        must(pipe(q));
        pid_t child = must(vfork());
        if (!child) {                                       // a program of its own, so that it has no copy of our memory
            dup2(p[0], 0); dup2(q[1], 1); close(p[0]); close(p[1]); close(q[0]); close(q[1]);
            execl("/bin/cat", "cat", NULL);
            _exit(1);
        }
        close(p[0]); close(q[1]);
        write(p[1], "x", 1);
        char x;
        same(1, read(q[0], &x, 1));
        double start = scenario_now();
        close(p[1]);
        same(0, read(q[0], &x, 1));
        double took = scenario_now() - start;
        if (took > worst) worst = took;
        close(q[0]);
        scenario_child(child, 0);
    }
    printf("worst %.3f\n", worst);
    return scenario_end();
}

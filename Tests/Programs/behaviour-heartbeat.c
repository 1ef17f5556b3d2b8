// Writes a growing number to the file "heart" all the time, in each of its processes and threads; argument: MiB of memory to hold.
#include "scenario.h"
static volatile int stop;
static void beat(int slot) {
    int fd = must(open(scenario_path("heart"), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    for (uint64_t n = 1; !stop; n++) { must(pwrite(fd, &n, 8, slot * 8)); usleep(2000); if (n % 8 == 0 && scenario_exists("go")) break; }
    close(fd);
}
static void *body(void *u) { beat((long)u); return u; }
int main(int argc, char **argv) {
    size_t size = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 0;
    char *m = size ? must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) : NULL;
    scenario_fill(m, size, 1);
    pthread_t t;
    must0(pthread_create(&t, NULL, body, (void *)1));
    pid_t child = must(fork());
    if (!child) { beat(2); scenario_leave(6); }
    scenario_touch("ready");
    beat(0);
    pthread_join(t, NULL);
    scenario_child(child, 6);
    same(-1, scenario_compare(m, size, 1));
    return scenario_end();
}

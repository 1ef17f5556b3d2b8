// Its many threads say of themselves that they go on somewhere else than in the runtime.  Each notes there whether another of them still has root's rights.
#include "scenario.h"
enum { THREADS = 31 };
static char seen[600];
static void __attribute__((used)) look(void) {
    const char *verdict = "ran\n";
    for (pid_t tid = getpid(); tid < getpid() + 2 * THREADS; tid++) {
        char path[64], text[2048];
        snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
        int fd = open(path, O_RDONLY);
        long n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        if (fd >= 0) close(fd);
        char *ids = strstr(text, "Uid:");
        if (ids && atoi(ids + 4) == 0) verdict = "root\n";
    }
    int fd = open(seen, O_WRONLY | O_APPEND | O_CREAT, 0600);
    write(fd, verdict, strlen(verdict));
    close(fd);
    syscall(SYS_exit, 0);
}
static void __attribute__((naked)) elsewhere(void) { __asm__ volatile("and $-16, %rsp\n call look\n ud2"); }
static void *body(void *k) {
    struct sched_param p = { 0 };
    if ((long)k % 4) sched_setscheduler(0, SCHED_IDLE, &p);         // those come last
    for (;;) sleep(1000);
}
int main(void) {
    pthread_t t;
    for (long k = 0; k < THREADS; k++) must0(pthread_create(&t, NULL, body, (void *)k));
    snprintf(seen, sizeof seen, "%s", scenario_path("seen"));
    FILE *place = fopen(scenario_path("place"), "w");
    fprintf(place, "%lu", (unsigned long)elsewhere);
    fclose(place);
    scenario_touch("ready");
    for (;;) sleep(1000);
}

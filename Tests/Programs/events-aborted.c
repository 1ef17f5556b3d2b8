// Inotify: a reader that is slower than two writers, one a thread of its own, sees each file once and in order; a child that has the queue too is killed again and again.
#include "scenario.h"
#include <sys/inotify.h>
static int queue, made, ending;
static unsigned pseudo = 1;
static unsigned some(unsigned most) { pseudo = pseudo * 1103515245 + 12345; return (pseudo >> 8) % most; }
static void *write_inside(void *unused) {
    char name[32];
    (void)unused;
    while (!__atomic_load_n(&ending, __ATOMIC_ACQUIRE)) {
        snprintf(name, sizeof name, "watched/i%d", made);
        must(close(must(open(scenario_path(name), O_CREAT | O_EXCL | O_WRONLY, 0600))));
        made++;
        usleep(1000);
    }
    return NULL;
}
static int next[2];                     // of ours, of others
static void read_some(int all) {
    static char buffer[2048] __attribute__((aligned(8)));
    do {
        int n = read(queue, buffer, all ? sizeof buffer : 32 + some(sizeof buffer - 32));
        if (n < 0) { check(errno == EAGAIN); return; }
        for (char *p = buffer; p < buffer + n; p += sizeof(struct inotify_event) + ((struct inotify_event *)p)->len) {
            struct inotify_event *e = (void *)p;
            same(IN_CREATE, e->mask);
            if (!e->len) return;
            same(next[e->name[0] == 'o']++, atoi(e->name + 1));
        }
    } while (all);
}
static pid_t start_victim(void) {
    pid_t pid = must(fork());
    if (!pid) { usleep(1000 + some(50000)); kill(getpid(), SIGKILL); }
    return pid;
}
int main(void) {
    must(mkdir(scenario_path("watched"), 0777)); must(chmod(scenario_path("watched"), 0777));
    queue = must(inotify_init1(IN_NONBLOCK));
    must(inotify_add_watch(queue, scenario_path("watched"), IN_CREATE));
    pthread_t writer; must0(pthread_create(&writer, NULL, write_inside, NULL));
    pid_t victim = start_victim();
    scenario_touch("ready");
    while (!scenario_exists("go")) {
        usleep(some(20000));
        read_some(0);
        if (waitpid(victim, NULL, WNOHANG) == victim) victim = start_victim();
    }
    __atomic_store_n(&ending, 1, __ATOMIC_RELEASE);
    must0(pthread_join(writer, NULL));
    read_some(1);
    must(waitpid(victim, NULL, 0));
    same(made, next[0]);
    printf("%d\n", next[1]);
    return scenario_end();
}

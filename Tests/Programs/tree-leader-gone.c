// The main thread has left by pthread_exit; the process lives on in its other threads.
#include "scenario.h"
static pthread_t first;
static void *other(void *unused) {
    (void)unused;
    pthread_join(first, NULL);
    pid_t tid = syscall(SYS_gettid), pid = getpid();
    scenario_wait();
    same(tid, syscall(SYS_gettid));
    same(pid, getpid());
    check(tid != pid);
    char line[256];
    scenario_line("/proc/self/status", "State:", line, sizeof line);
    check(strchr(line, 'Z'));
    exit(scenario_end());
}
int main(void) {
    first = pthread_self();
    pthread_t thread;
    must0(pthread_create(&thread, NULL, other, NULL));
    pthread_exit(NULL);
}

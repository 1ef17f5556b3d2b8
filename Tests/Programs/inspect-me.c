// Has one of everything that `ckptctl inspect` shows, and writes down what.
#include "scenario.h"
static void handler(int s) { (void)s; }
int main(void) {
    int fd = must(open(scenario_path("read-me"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600)), p[2];
    must(write(fd, "hello", 5));
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };
    must(fcntl(fd, F_SETLK, &l));
    must(pipe(p)); must(write(p[1], "abc", 3));
    char *memory = must(mmap((void *)0x123400000000, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memory[0] = memory[40000] = 1;
    struct sigaction a = { .sa_handler = handler, .sa_flags = SA_RESTART };
    must(sigaction(SIGUSR1, &a, NULL));
    signal(SIGHUP, SIG_IGN);
    sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR2); must(sigprocmask(SIG_BLOCK, &set, NULL));
    must(kill(getpid(), SIGUSR2));
    struct itimerval t = { .it_value = { 5000, 0 }, .it_interval = { 7, 500000 } };
    must(setitimer(ITIMER_REAL, &t, NULL));
    struct rlimit core = { 4096, 8192 }; must(setrlimit(RLIMIT_CORE, &core));
    pid_t child = must(fork());
    if (!child) { scenario_await("go"); scenario_leave(0); }
    FILE *f = fopen(scenario_path("facts"), "we");
    fprintf(f, "pid %d\nchild %d\nfd %d\npipe %d\nmemory %lx\nhandler %lx\n", getpid(), child, fd, p[0], (long)memory, (long)handler);
    fclose(f);
    scenario_wait();
    scenario_child(child, 0);
    return scenario_end();
}

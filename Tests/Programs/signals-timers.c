// Interval timers, POSIX timers with their ids, alarm: what is left of each, and that they fire with their values.
#include "scenario.h"
static volatile int alarms, fired[8], values[8], notified;
static void on_alarm(int s) { (void)s; alarms++; }
static void on_timer(int s, siginfo_t *i, void *c) { (void)c; int k = s - SIGRTMIN; fired[k]++; values[k] = i->si_value.sival_int; }
static void on_thread(union sigval v) { notified = v.sival_int; }
static volatile pid_t target;
static volatile int on_target;
static void on_tid(int s) { (void)s; on_target = syscall(SYS_gettid) == target; }
static volatile int stop;
static void *body(void *u) { target = syscall(SYS_gettid); while (!stop) usleep(1000); return u; }
static double seconds(struct timespec t) { return t.tv_sec + t.tv_nsec / 1e9; }
int main(void) {
    struct sigaction a = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    sigaction(SIGVTALRM, &a, NULL);
    sigaction(SIGPROF, &a, NULL);
    struct sigaction t = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
    for (int i = 0; i < 6; i++) sigaction(SIGRTMIN + i, &t, NULL);
    struct sigaction d = { .sa_handler = on_tid, .sa_flags = SA_RESTART };
    sigaction(SIGUSR2, &d, NULL);
    // Ids with gaps: 0, 2, 4 and 6 live.
    timer_t id[7];
    for (int i = 0; i < 7; i++) {
        struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + i % 6, .sigev_value.sival_int = 1000 + i };
        must(timer_create(i == 4 ? CLOCK_REALTIME : CLOCK_MONOTONIC, &e, &id[i]));
    }
    for (int i = 1; i < 6; i += 2) must(timer_delete(id[i]));
    struct itimerspec far = { { 7, 0 }, { 1000, 0 } }, soon = { { 0, 20000000 }, { 0, 20000000 } }, later = { { 0, 0 }, { 900, 0 } };
    must(timer_settime(id[0], 0, &soon, NULL));
    must(timer_settime(id[2], 0, &far, NULL));
    must(timer_settime(id[4], 0, &later, NULL));             // id[6] is not armed
    pthread_t thread;
    must0(pthread_create(&thread, NULL, body, NULL));
    while (!target) usleep(1000);
    struct sigevent direct = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2 };
    direct._sigev_un._tid = target;
    timer_t to_thread, by_thread;
    must(timer_create(CLOCK_MONOTONIC, &direct, &to_thread));
    struct sigevent helper = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread, .sigev_value.sival_int = 31 };
    must(timer_create(CLOCK_MONOTONIC, &helper, &by_thread));
    struct itimerval virtual = { { 3, 0 }, { 500, 0 } }, prof = { { 0, 0 }, { 400, 0 } }, real = { { 5, 0 }, { 700, 0 } };
    must(setitimer(ITIMER_VIRTUAL, &virtual, NULL));
    must(setitimer(ITIMER_PROF, &prof, NULL));
    must(setitimer(ITIMER_REAL, &real, NULL));
    struct itimerspec left;
    double start = scenario_now();
    scenario_wait();
    double passed = scenario_now() - start;
    struct itimerval v;
    getitimer(ITIMER_VIRTUAL, &v);
    same(3, v.it_interval.tv_sec); check(v.it_value.tv_sec >= 490 && v.it_value.tv_sec <= 500);
    getitimer(ITIMER_PROF, &v);
    same(0, v.it_interval.tv_sec); check(v.it_value.tv_sec >= 390 && v.it_value.tv_sec <= 400);
    getitimer(ITIMER_REAL, &v);
    same(5, v.it_interval.tv_sec);
    double rest = v.it_value.tv_sec + v.it_value.tv_usec / 1e6;
    if (rest < 700 - passed - 1.5 || rest > 700 - passed + 5) scenario_differs("ITIMER_REAL: %.3f s left after %.3f s", rest, passed);
    for (int i = 1; i < 6; i += 2) same(-1, timer_gettime(id[i], &left));
    must(timer_gettime(id[2], &left));
    check(left.it_interval.tv_sec == 7);
    if (seconds(left.it_value) < 1000 - passed - 1.5 || seconds(left.it_value) > 1000 - passed + 5) scenario_differs("timer 2: %.3f s left after %.3f", seconds(left.it_value), passed);
    must(timer_gettime(id[4], &left));
    check(left.it_value.tv_sec > 800);
    must(timer_gettime(id[6], &left));
    check(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    int before = fired[0];
    for (int i = 0; i < 200 && fired[0] < before + 3; i++) usleep(10000);
    check(fired[0] >= before + 3);
    same(1000, values[0]);
    soon.it_interval.tv_nsec = 0;
    must(timer_settime(id[6], 0, &soon, NULL));
    must(timer_settime(to_thread, 0, &soon, NULL));
    must(timer_settime(by_thread, 0, &soon, NULL));
    usleep(200000);
    for (int i = 0; i < 100 && !(on_target && notified); i++) usleep(10000);
    same(1, on_target);
    same(31, notified);
    int again = id[6] == id[0];
    same(0, again);
    timer_t fresh;
    struct sigevent e = { .sigev_notify = SIGEV_NONE };
    must(timer_create(CLOCK_MONOTONIC, &e, &fresh));
    must(timer_delete(id[0]));
    stop = 1;
    pthread_join(thread, NULL);
    return scenario_end();
}

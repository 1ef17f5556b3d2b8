// Time namespaces: of a part of the tree, made by unshare(2) for children, before and after the checkpoint, and entered; "whole": all of it lives in one.
#include "scenario.h"
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
static double now(clockid_t c) { struct timespec t; must(clock_gettime(c, &t)); return t.tv_sec + t.tv_nsec / 1e9; }
static double raw(clockid_t c) { struct timespec t; must(syscall(SYS_clock_gettime, c, &t)); return t.tv_sec + t.tv_nsec / 1e9; }
static void offsets(const char *text) {
    int fd = must(open("/proc/self/timens_offsets", O_WRONLY));
    must(write(fd, text, strlen(text)));
    close(fd);
}
// How far two parts are apart must not change; the clock itself goes on.
struct seen { double monotonic, boottime; };
static struct seen *clocks;
static void see(int i) { clocks[i] = (struct seen){ now(CLOCK_MONOTONIC), now(CLOCK_BOOTTIME) }; }
static void look(int i, int base, double monotonic, double boottime, const char *who) {
    see(i);
    double m = clocks[i].monotonic - clocks[base].monotonic - monotonic, b = clocks[i].boottime - clocks[base].boottime - boottime;
    if (m < -60 || m > 60 || b < -60 || b > 60) scenario_differs("%s: clocks are %f and %f from where they were", who, m, b);
    double d = raw(CLOCK_MONOTONIC) - now(CLOCK_MONOTONIC);
    if (d < -1 || d > 1) scenario_differs("%s: the vdso's clock and the system call's are %f apart", who, d);
}
static void wait_for(const char *name) { scenario_touch(name); scenario_await("go"); scenario_await("base"); }
static pid_t child_of_maker(const char *name, double monotonic) {
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    look(1, 0, monotonic, 70000, name);
    wait_for(name);
    look(1, 0, monotonic, 70000, name);
    scenario_leave(4);
    return 0;
}
int main(int argc, char **argv) {
    if (argc > 1) {
        if (geteuid()) {
            char self[512];
            self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
            execlp("unshare", "unshare", "--user", "--map-root-user", self, "whole", NULL);
            return 9;
        }
        must(unshare(CLONE_NEWTIME));
        offsets("monotonic 500000 0\nboottime 600000 0\n");
        int fd = must(open("/proc/self/ns/time_for_children", O_RDONLY));
        must(setns(fd, CLONE_NEWTIME));
        close(fd);
        double m = now(CLOCK_MONOTONIC), b = now(CLOCK_BOOTTIME);
        check(m > 500000 && b > 600000);
        pid_t child = must(fork());
        if (!child) { scenario_touch("child"); scenario_await("go"); check(now(CLOCK_MONOTONIC) >= m && now(CLOCK_MONOTONIC) < m + 300); scenario_leave(4); }
        scenario_await("child");
        scenario_wait();
        check(now(CLOCK_MONOTONIC) >= m && now(CLOCK_MONOTONIC) < m + 300);
        check(now(CLOCK_BOOTTIME) >= b && now(CLOCK_BOOTTIME) < b + 300);
        scenario_child(child, 4);
        return scenario_end();
    }
    clocks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    see(0);
    pid_t maker = must(fork());
    if (!maker) {
        pid_t early = must(fork());         // stays where the tree is
        if (!early) { wait_for("early"); look(2, 0, 0, 0, "early"); scenario_leave(3); }
        must(unshare(CLONE_NEWTIME));
        offsets("monotonic 5000 500000000\nboottime 70000 0\n");
        pid_t one = child_of_maker("one", 5000.5);
        scenario_await("early");
        scenario_touch("maker");
        scenario_await("go"); scenario_await("base");
        look(3, 0, 0, 0, "maker");
        pid_t late = child_of_maker("late", 5000.5);
        scenario_child(early, 3); scenario_child(one, 4); scenario_child(late, 4);
        scenario_leave(5);
    }
    pid_t entered = must(fork());
    if (!entered) {                         // its maker is gone
        must(unshare(CLONE_NEWTIME));
        offsets("monotonic 9000 0\nboottime 90000 0\n");
        int fd = must(open("/proc/self/ns/time_for_children", O_RDONLY));
        must(setns(fd, CLONE_NEWTIME));
        close(fd);
        struct timespec t;
        timer_t timer;
        struct sigevent e = { .sigev_notify = SIGEV_NONE };
        struct itimerspec left = { .it_value = { 1000, 0 } };
        must(timer_create(CLOCK_MONOTONIC, &e, &timer));
        must(timer_settime(timer, 0, &left, NULL));
        wait_for("entered");
        look(4, 0, 9000, 90000, "entered");
        must(timer_gettime(timer, &left));
        check(left.it_value.tv_sec > 700 && left.it_value.tv_sec <= 1000);
        must(clock_gettime(CLOCK_MONOTONIC, &t));
        t.tv_nsec += 1000000;
        if (t.tv_nsec >= 1000000000) { t.tv_sec++; t.tv_nsec -= 1000000000; }
        same(0, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
        scenario_leave(6);
    }
    scenario_await("maker"); scenario_await("entered");
    scenario_wait();
    see(0);
    scenario_touch("base");
    scenario_child(maker, 5); scenario_child(entered, 6);
    return scenario_end();
}

// Processes of a tree in time namespaces that belong to user namespaces of their own: how far their clocks are ahead must not change.
#include "namespaces-users.h"
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
static double now(clockid_t c) { struct timespec t; must(clock_gettime(c, &t)); return t.tv_sec + t.tv_nsec / 1e9; }
struct clocks { double monotonic, boottime; } *outside;
static void look(const char *who, double ahead) {
    double m = now(CLOCK_MONOTONIC) - outside->monotonic - ahead, b = now(CLOCK_BOOTTIME) - outside->boottime - 2 * ahead;
    if (m < -60 || m > 60 || b < -60 || b > 60) scenario_differs("%s: clocks are %f and %f from where they were", who, m, b);
}
static pid_t ahead(const char *name, int seconds) {
    pid_t child = must(fork());
    if (child) { scenario_await(name); return child; }
    char text[100], before[8192];
    enter_alone(CLONE_NEWTIME);
    snprintf(text, sizeof text, "monotonic %d 0\nboottime %d 0\n", seconds, 2 * seconds);
    put("/proc/self/timens_offsets", text);
    int fd = must(open("/proc/self/ns/time_for_children", O_RDONLY));
    must(setns(fd, CLONE_NEWTIME));
    close(fd);
    look(name, seconds); owned_here("time"); identity(before);
    pid_t grandchild = must(fork());        // in the same namespaces
    if (!grandchild) { scenario_await("base"); look("grandchild", seconds); scenario_leave(4); }
    scenario_touch(name);
    scenario_await("base");
    look(name, seconds); owned_here("time"); same_identity(name, before);
    scenario_child(grandchild, 4);
    scenario_leave(5);
}
static void see(void) { *outside = (struct clocks) { now(CLOCK_MONOTONIC), now(CLOCK_BOOTTIME) }; }
int main(void) {
    outside = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    see();
    pid_t one = ahead("one", 5000), two = ahead("two", 90000);
    scenario_wait();
    see();
    scenario_touch("base");
    scenario_child(one, 5); scenario_child(two, 5);
    return scenario_end();
}

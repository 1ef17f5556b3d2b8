// Settings of network and IPC namespaces that are not what a new one has, of the whole tree and of a child.
#include "scenario.h"
static const char *paths[] = { "net/ipv4/ip_forward", "net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range", "net/ipv4/conf/lo/rp_filter", "net/ipv4/tcp_keepalive_time",
    "net/ipv6/conf/all/disable_ipv6", "kernel/msgmax", "kernel/sem", "fs/mqueue/queues_max" };
enum { COUNT = sizeof paths / sizeof paths[0] };
static void get(int i, char *text) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", paths[i]);
    text[0] = 0;
    FILE *f = fopen(path, "r");
    if (f) { fgets(text, 128, f); fclose(f); }
}
static void put(int i, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", paths[i]);
    int fd = open(path, O_WRONLY);
    if (fd >= 0) { must(write(fd, text, strlen(text))); close(fd); }
}
static void change(const char **values) { for (int i = 0; i < COUNT; i++) if (values[i]) put(i, values[i]); }
static void check_all(char before[COUNT][128], const char *who) {
    for (int i = 0; i < COUNT; i++) {
        char now[128];
        get(i, now);
        if (strcmp(now, before[i])) scenario_differs("%s: %s is %s, was %s", who, paths[i], now, before[i]);
    }
}
int main(int argc, char **argv) {
    const char *values[2][COUNT] = { { "1", "80", "0 1000", "2", "1234", "1", "10000", "300 40000 50 200", "77" }, { NULL, "1", NULL, "1", "77", NULL, "20000", NULL, NULL } };
    char before[COUNT][128];
    int parts = argc > 1;           // two children in namespaces of their own, or all in one
    pid_t children[2] = { 0, 0 };
    if (!parts) { must(unshare(CLONE_NEWNET | CLONE_NEWIPC)); change(values[0]); }
    for (int k = 0; k < 2; k++) {
        if (!(children[k] = must(fork()))) {
            char name[] = { 'a' + k, 0 };
            if (parts) { must(unshare(CLONE_NEWNET | CLONE_NEWIPC)); change(values[k]); }
            for (int i = 0; i < COUNT; i++) get(i, before[i]);
            scenario_touch(name);
            scenario_await("go");
            check_all(before, name);
            scenario_leave(k);
        }
    }
    scenario_await("a"); scenario_await("b");
    for (int i = 0; i < COUNT; i++) get(i, before[i]);
    scenario_wait();
    check_all(before, "main");
    for (int k = 0; k < 2; k++) scenario_child(children[k], k);
    return scenario_end();
}

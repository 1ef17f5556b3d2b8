// Starts the program of its arguments as a child and waits for it, with its pid in a file name.
#include "scenario.h"
int main(int argc, char **argv) {
    (void)argc;
    pid_t child = must(fork());
    if (!child) { execv(argv[1], argv + 1); _exit(95); }
    char name[32];
    snprintf(name, sizeof name, "child-%d", child);
    scenario_touch(name);
    usleep(200000);
    scenario_wait();
    scenario_child(child, 0);
    return scenario_end();
}

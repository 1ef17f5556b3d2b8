// Waits for a child of vfork when it is told to: "ready", "vfork", "on", "go".
#include "scenario.h"
enum { SIZE = 64 << 20 };
int main(void) {
    char *memory = must(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    scenario_fill(memory, SIZE, 3);
    scenario_touch("ready");
    scenario_await("vfork");
    pid_t child = vfork();
    if (!child) { scenario_touch("waits"); scenario_await("on"); _exit(5); }
    scenario_child(child, 5);
    memory[100] ^= 1;
    scenario_await("go");
    memory[100] ^= 1;
    check(scenario_compare(memory, SIZE, 3) < 0);
    return scenario_end();
}

// Two children in networks of their own, whose parent gives them a pair of devices, ve0 and ve1, when both are there.
#include "scenario.h"
#include <arpa/inet.h>
#include <sys/socket.h>
static void shell(const char *command) { if (system(command)) scenario_differs("failed: %s", command); }
static struct sockaddr_in place(const char *address, int port) { return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(address) }; }
// In child k, who is in its network: brings its end up at an address.
static void take_link(int k, const char *address) {
    char command[256];
    scenario_touch(k ? "entered-1" : "entered-0");
    scenario_await("linked");
    snprintf(command, sizeof command, "ip addr add %s/24 dev ve%d && ip link set ve%d up", address, k, k);
    shell(command);
}
// In the parent: until both have seen what they compare with later, and ended.
static void link_children(pid_t children[2]) {
    char command[256];
    scenario_await("entered-0"); scenario_await("entered-1");
    snprintf(command, sizeof command, "nsenter -t %d -n ip link add ve0 type veth peer name ve1 netns %d", children[0], children[1]);
    shell(command);
    scenario_touch("linked");
    scenario_await("seen-0"); scenario_await("seen-1");
    scenario_wait();
    for (int k = 0; k < 2; k++) scenario_child(children[k], k);
}

// Mappings of files that have no name any more, private and shared with a child.
#include "scenario.h"
enum { P = 4096 };
int main(void) {
    int fd = must(open(scenario_path("deleted.dat"), O_RDWR | O_CREAT, 0600));
    char *block = malloc(8 * P);
    scenario_fill(block, 8 * P, 2);
    must(pwrite(fd, block, 8 * P, 0));
    char *shared = must(mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    char *private = must(mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    must(unlink(scenario_path("deleted.dat")));
    close(fd);
    scenario_fill(shared + P, P, 30);
    scenario_fill(private + 2 * P, P, 31);
    pid_t child = must(fork());
    if (!child) {
        scenario_touch("child");
        scenario_await("go");
        while (shared[0] != 'x') usleep(1000);
        shared[1] = 'y';
        scenario_leave(0);
    }
    scenario_await("child");
    scenario_wait();
    check(!memcmp(shared + 2 * P, block + 2 * P, 6 * P));
    same(-1, scenario_compare(shared + P, P, 30));
    same(-1, scenario_compare(private + P, P, 30));          // not modified: the file's
    same(-1, scenario_compare(private + 2 * P, P, 31));
    shared[0] = 'x';
    scenario_child(child, 0);
    same('y', shared[1]);
    same('y', private[1]);
    check(!scenario_exists("deleted.dat"));
    return scenario_end();
}

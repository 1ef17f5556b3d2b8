// One description shared by dup and by fork stays one; two opens of a file stay two.
#include "scenario.h"
#include <linux/kcmp.h>
static long compare(pid_t a, int x, pid_t b, int y) { return syscall(SYS_kcmp, a, b, KCMP_FILE, x, y); }
int main(void) {
    int a = must(open(scenario_path("shared.dat"), O_RDWR | O_CREAT, 0600));
    must(write(a, "abcdefghijklmnopqrstuvwxyz", 26));
    must(lseek(a, 0, SEEK_SET));
    int b = must(dup(a));
    int c = must(open(scenario_path("shared.dat"), O_RDWR));
    pid_t child = must(fork());
    if (!child) {
        int own = must(open(scenario_path("shared.dat"), O_RDONLY));
        lseek(own, 20, SEEK_SET);
        close(c);
        scenario_touch("child");
        scenario_await("first");
        char x[4] = "";
        same(3, read(b, x, 3));
        check(!strcmp(x, "def"));
        same(1, read(own, x, 1));
        same('u', x[0]);
        check(fcntl(a, F_GETFL) & O_APPEND);
        scenario_touch("second");
        scenario_leave(0);
    }
    scenario_await("child");
    scenario_wait();
    char x[4] = "";
    same(0, compare(getpid(), a, getpid(), b));
    check(compare(getpid(), a, getpid(), c) != 0);
    same(0, compare(getpid(), a, child, b));
    same(3, read(a, x, 3));
    check(!strcmp(x, "abc"));
    fcntl(b, F_SETFL, O_APPEND);
    scenario_touch("first");
    scenario_await("second");
    same(6, lseek(b, 0, SEEK_CUR));
    same(0, lseek(c, 0, SEEK_CUR));
    check(!(fcntl(c, F_GETFL) & O_APPEND));
    scenario_child(child, 0);
    return scenario_end();
}

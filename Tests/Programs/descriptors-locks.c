// File locks: POSIX record locks (of the process), OFD locks and flock (of the description), as others meet them.
#include "scenario.h"
#include <sys/file.h>
static struct flock probe(int fd, int command, short type, off_t start, off_t length) {
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    must(fcntl(fd, command, &l));
    return l;
}
int main(void) {
    int a = must(open(scenario_path("posix"), O_RDWR | O_CREAT, 0600)), b = must(open(scenario_path("ofd"), O_RDWR | O_CREAT, 0600));
    int c = must(open(scenario_path("flock"), O_RDWR | O_CREAT, 0600));
    struct flock write = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 }, read = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100 };
    must(fcntl(a, F_SETLK, &write));
    must(fcntl(a, F_SETLK, &read));
    must(fcntl(b, F_OFD_SETLK, &write));
    must(flock(c, LOCK_SH));
    pid_t me = getpid(), child = must(fork());              // shares b and c, has none of the POSIX locks
    if (!child) {
        scenario_touch("child");
        scenario_await("checked");
        scenario_leave(0);
    }
    scenario_await("child");
    scenario_wait();
    pid_t other = must(fork());
    if (!other) {
        struct flock seen = probe(a, F_GETLK, F_WRLCK, 0, 50);
        same(F_WRLCK, seen.l_type); same(10, seen.l_start); same(5, seen.l_len); same(me, seen.l_pid);
        seen = probe(a, F_GETLK, F_WRLCK, 60, 0);
        same(F_RDLCK, seen.l_type); same(100, seen.l_start); same(0, seen.l_len);
        same(F_UNLCK, probe(a, F_GETLK, F_WRLCK, 15, 80).l_type);
        int again = must(open(scenario_path("ofd"), O_RDWR));
        seen = probe(again, F_OFD_GETLK, F_WRLCK, 0, 0);
        same(F_WRLCK, seen.l_type); same(10, seen.l_start);
        same(F_UNLCK, probe(b, F_OFD_GETLK, F_WRLCK, 0, 0).l_type);      // its own
        int locked = must(open(scenario_path("flock"), O_RDWR));
        same(-1, flock(locked, LOCK_EX | LOCK_NB));
        same(0, flock(locked, LOCK_SH | LOCK_NB));
        scenario_leave(0);
    }
    scenario_child(other, 0);
    scenario_touch("checked");
    scenario_child(child, 0);
    must(flock(c, LOCK_EX | LOCK_NB));
    return scenario_end();
}

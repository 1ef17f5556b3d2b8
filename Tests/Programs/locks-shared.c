// Locks held together: a flock that a fork shares, read locks of several processes, a file opened several times, and waiters that go on waiting.
#include "scenario.h"
#include <sys/file.h>
static struct flock lock(short type, off_t start, off_t length) { return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length }; }
int main(void) {
    int shared = must(open(scenario_path("flock"), O_RDWR | O_CREAT, 0600)), other = must(open(scenario_path("flock"), O_RDWR));
    int posix = must(open(scenario_path("posix"), O_RDWR | O_CREAT, 0600)), again = must(dup(posix)), ofd = must(open(scenario_path("posix"), O_RDWR));
    struct flock read = lock(F_RDLCK, 0, 10), write = lock(F_WRLCK, 20, 5), third = lock(F_WRLCK, 40, 1);
    must(flock(shared, LOCK_EX));
    must(fcntl(posix, F_SETLK, &read));
    must(fcntl(again, F_SETLK, &write));
    must(fcntl(ofd, F_OFD_SETLK, &third));
    pid_t reader = must(fork());
    if (!reader) {                          // a read lock on the same bytes; the flock is the parent's too
        must(fcntl(posix, F_SETLK, &read));
        scenario_touch("reading");
        scenario_await("checked");
        scenario_leave(0);
    }
    pid_t waiter = must(fork());
    if (!waiter) {                          // blocked until the parent unlocks
        struct flock mine = lock(F_WRLCK, 22, 1);
        scenario_touch("waiting");
        must(fcntl(posix, F_SETLKW, &mine));
        check(scenario_exists("unlocked"));
        scenario_leave(7);
    }
    pid_t flocker = must(fork());
    if (!flocker) {
        close(shared);
        scenario_touch("flocking");
        must(flock(other, LOCK_EX));
        check(scenario_exists("unlocked"));
        scenario_leave(8);
    }
    scenario_await("reading"); scenario_await("waiting"); scenario_await("flocking");
    usleep(50000);
    scenario_wait();
    pid_t me = getpid();
    struct flock l = lock(F_WRLCK, 0, 10);
    must(fcntl(posix, F_GETLK, &l));        // the reader's: our own never shows
    same(reader, l.l_pid); same(F_RDLCK, l.l_type);
    int probe = must(open(scenario_path("flock"), O_RDWR));
    check(flock(probe, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    l = lock(F_WRLCK, 20, 30);
    must(fcntl(probe = must(open(scenario_path("posix"), O_RDWR)), F_OFD_GETLK, &l));
    same(me, l.l_pid); same(20, l.l_start); same(5, l.l_len);
    l = lock(F_WRLCK, 40, 30);
    must(fcntl(probe, F_OFD_GETLK, &l));
    same(F_WRLCK, l.l_type); same(-1, l.l_pid); same(40, l.l_start);
    check(waitpid(waiter, NULL, WNOHANG) == 0);
    check(waitpid(flocker, NULL, WNOHANG) == 0);
    scenario_touch("unlocked");
    struct flock undo = lock(F_UNLCK, 20, 5);
    must(fcntl(posix, F_SETLK, &undo));
    must(flock(shared, LOCK_UN));           // for all who share it
    scenario_child(waiter, 7);
    scenario_child(flocker, 8);
    scenario_touch("checked");
    scenario_child(reader, 0);
    return scenario_end();
}

// Holds one lock on the file "locked".  With a second argument it is somebody outside the tree, who says so by a file of that name.
#include "scenario.h"
#include <sys/file.h>
int main(int argc, char **argv) {
    int fd = must(open(scenario_path("locked"), O_RDWR | O_CREAT, 0600));
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 4 };
    if (!strcmp(argv[1], "posix")) must(fcntl(fd, F_SETLK, &l));
    if (!strcmp(argv[1], "ofd")) must(fcntl(fd, F_OFD_SETLK, &l));
    if (!strcmp(argv[1], "flock")) must(flock(fd, LOCK_EX | LOCK_NB));
    if (!strcmp(argv[1], "lease")) must(fcntl(fd, F_SETLEASE, F_WRLCK));
    if (argc > 2) { scenario_touch(argv[2]); sleep(60); return 0; }
    scenario_wait();
    if (!strcmp(argv[1], "lease")) same(F_WRLCK, fcntl(fd, F_GETLEASE));
    return scenario_end();
}

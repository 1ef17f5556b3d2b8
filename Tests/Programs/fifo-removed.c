// FIFOs whose names are gone: with unread bytes; with their folder gone, shared with a child that writes; with a reader that waits for its first writer,
// beside one whose writers have left.
#include "scenario.h"
#include <poll.h>
int main(void) {
    must(mkfifo(scenario_path("one"), 0640));
    int both = must(open(scenario_path("one"), O_RDWR)), reads = must(open(scenario_path("one"), O_RDONLY | O_NONBLOCK));
    must(write(both, "unread", 6)); must(unlink(scenario_path("one")));
    must(mkdir(scenario_path("folder"), 0700)); must(mkfifo(scenario_path("folder/two"), 0600));
    int read_end = must(open(scenario_path("folder/two"), O_RDONLY | O_NONBLOCK)), write_end = must(open(scenario_path("folder/two"), O_WRONLY));
    must(unlink(scenario_path("folder/two"))); must(rmdir(scenario_path("folder")));
    struct stat before[2], now; must(fstat(both, &before[0])); must(fstat(read_end, &before[1]));
    must(mkfifo(scenario_path("three"), 0600)); must(mkfifo(scenario_path("four"), 0600));
    int waits = must(open(scenario_path("three"), O_RDONLY | O_NONBLOCK)), hung = must(open(scenario_path("four"), O_RDONLY | O_NONBLOCK));
    close(must(open(scenario_path("four"), O_WRONLY))); must(unlink(scenario_path("three")));
    pid_t child = fork();
    if (!child) { close(read_end); scenario_await("go"); must(write(write_end, "from the child", 14)); scenario_leave(3); }
    close(write_end);
    scenario_wait();
    char b[32] = "";
    struct pollfd p[2] = { { waits, POLLIN, 0 }, { hung, POLLIN, 0 } };
    same(1, poll(p, 2, 0)); same(0, p[0].revents); same(POLLHUP, p[1].revents);
    must(fstat(both, &now)); same(before[0].st_mode, now.st_mode); same(before[0].st_nlink, now.st_nlink); same(before[0].st_uid, now.st_uid);
    must(fstat(read_end, &now)); same(before[1].st_mode, now.st_mode); same(0, now.st_nlink);
    same(6, read(reads, b, sizeof b)); check(!memcmp(b, "unread", 6)); check(read(reads, b, 1) < 0 && errno == EAGAIN);
    same(O_NONBLOCK, fcntl(reads, F_GETFL) & O_NONBLOCK); same(0, fcntl(both, F_GETFL) & O_NONBLOCK); same(O_RDWR, fcntl(both, F_GETFL) & O_ACCMODE);
    scenario_child(child, 3);
    same(14, read(read_end, b, sizeof b)); check(!memcmp(b, "from the child", 14)); same(0, read(read_end, b, 1));
    must(write(both, "again", 5)); same(5, read(reads, b, sizeof b));
    return scenario_end();
}

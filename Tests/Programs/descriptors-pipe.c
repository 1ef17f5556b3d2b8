// Pipes: contents, size, flags, both ends, full ones, ones that lost an end; end of file and SIGPIPE come when they must.
#include "scenario.h"
int main(void) {
    int plain[2], sized[2], packet[2], full[2], eof[2], broken[2], between[2], back[2];
    must(pipe(plain)); must(pipe2(sized, O_CLOEXEC | O_NONBLOCK)); must(pipe2(packet, O_DIRECT)); must(pipe2(full, O_NONBLOCK)); must(pipe(eof));
    must(pipe(broken)); must(pipe(between)); must(pipe(back));
    must(write(plain[1], "some contents", 13));
    int size = must(fcntl(sized[1], F_SETPIPE_SZ, 16384));
    char block[65536], got[65536];
    scenario_fill(block, sizeof block, 4);
    must(write(sized[1], block, 10000));
    must(read(sized[0], got, 3000));
    long filled = 0;
    for (long n; (n = write(full[1], block, 4096)) > 0; ) filled += n;
    must(write(eof[1], "last", 4));
    close(eof[1]);
    close(broken[0]);
    must(write(between[1], "left over", 9));
    pid_t child = must(fork());
    if (!child) {
        close(between[1]); close(back[0]);
        scenario_touch("child");
        scenario_await("go");
        char x[64] = "";
        int n = read(between[0], x, 9);
        same(9, n);
        check(!strcmp(x, "left over"));
        n = read(between[0], x, 3);
        same(3, n);
        same(0, read(between[0], x, 1));                    // the parent has closed
        write(back[1], "done", 4);
        scenario_leave(0);
    }
    close(between[0]); close(back[1]);
    scenario_await("child");
    scenario_wait();
    memset(got, 0, sizeof got);
    same(13, read(plain[0], got, 100));
    check(!memcmp(got, "some contents", 13));
    same(size, fcntl(sized[0], F_GETPIPE_SZ));
    same(7000, read(sized[0], got, sizeof got));
    check(!memcmp(got, block + 3000, 7000));
    same(-1, read(sized[0], got, 1));
    same(EAGAIN, errno);
    same(FD_CLOEXEC, fcntl(sized[0], F_GETFD));
    same(0, fcntl(plain[0], F_GETFD));
    same(-1, write(full[1], block, 4096));
    same(EAGAIN, errno);
    long total = 0;
    for (long n; total < filled && (n = read(full[0], got, sizeof got)) > 0; total += n) check(!memcmp(got, block, n < 4096 ? n : 4096));
    same(filled, total);
    same(4, read(eof[0], got, 100));
    same(0, read(eof[0], got, 100));
    signal(SIGPIPE, SIG_IGN);
    same(-1, write(broken[1], "x", 1));
    same(EPIPE, errno);
    must(write(between[1], "abc", 3));
    close(between[1]);
    same(4, read(back[0], got, 100));
    same(0, read(back[0], got, 100));
    scenario_child(child, 0);
    return scenario_end();
}

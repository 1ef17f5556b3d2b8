// Terminal sessions on pseudo-terminals of the tree: who controls whom, the foreground group, /dev/tty, background groups, sessions without a terminal.
#include "scenario.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile int interrupted, resized;
static void on_int(int s) { (void)s; interrupted++; }
static void on_winch(int s) { (void)s; resized++; }
static int background(void) {       // in a group of its own
    must(setpgid(0, 0));
    signal(SIGTTOU, SIG_IGN);
    scenario_touch("background-ready");
    scenario_await("go");
    int tty = must(open("/dev/tty", O_RDWR));
    check(tcgetpgrp(tty) != getpgrp());
    errno = 0;
    signal(SIGTTIN, SIG_IGN);
    char c;
    check(read(tty, &c, 1) == -1 && errno == EIO);
    scenario_leave(7);
    return 0;
}
static int detached(void) {         // gave up the terminal but not the session
    int tty = must(open("/dev/tty", O_RDWR));
    must(ioctl(tty, TIOCNOTTY));
    scenario_touch("detached-ready");
    scenario_await("go");
    check(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
    check(getsid(0) == getppid());
    scenario_leave(8);
    return 0;
}
static int leader(void) {           // on the slave: 0, 1, 2
    int tty = must(open("/dev/tty", O_RDWR | O_NONBLOCK | O_CLOEXEC)), status;
    signal(SIGINT, on_int); signal(SIGWINCH, on_winch);
    pid_t b = fork(); if (b == 0) background();
    pid_t d = fork(); if (d == 0) detached();
    scenario_await("background-ready"); scenario_await("detached-ready");
    pid_t session = tcgetsid(0);
    same(getpid(), session); same(getpgrp(), tcgetpgrp(0));
    struct stat before, after;
    must(fstat(tty, &before));
    scenario_touch("leader-ready");
    scenario_await("go");
    same(getpid(), tcgetsid(0)); same(getpgrp(), tcgetpgrp(0)); same(getpid(), getsid(0));
    must(fstat(tty, &after)); same(before.st_rdev, after.st_rdev);
    same(O_NONBLOCK, fcntl(tty, F_GETFL) & O_NONBLOCK); same(0, fcntl(0, F_GETFL) & O_NONBLOCK);
    same(getpgrp(), tcgetpgrp(tty)); same(getpid(), tcgetsid(tty));
    scenario_child(b, 7); scenario_child(d, 8);
    (void)status;
    scenario_touch("checked");
    for (int i = 0; i < 4000 && !(interrupted && resized); i++) usleep(5000);
    same(1, interrupted); same(1, resized);
    write(tty, scenario_bad ? "bad\n" : "good\n", scenario_bad ? 4 : 5);
    scenario_leave(5);
    return 0;
}
int main(void) {
    int master, other;
    pid_t child = must(forkpty(&master, NULL, NULL, NULL));
    if (child == 0) return leader();
    // A second one that leads a session on a terminal of its own, where a job has the foreground.
    pid_t shell = must(forkpty(&other, NULL, NULL, NULL));
    if (shell == 0) {
        pid_t job = fork();
        if (job == 0) { setpgid(0, 0); scenario_touch("job"); scenario_await("go"); char line[32]; long n = read(0, line, sizeof line); scenario_leave(n == 5 && !memcmp(line, "line\n", 5) ? 3 : 4); }
        setpgid(job, job);
        scenario_await("job");
        signal(SIGTTOU, SIG_IGN);
        must(tcsetpgrp(0, job));
        scenario_touch("shell-ready");
        scenario_await("go");
        same(job, tcgetpgrp(0));
        scenario_child(job, 3);
        // The group is gone; it is still the foreground group.
        same(job, tcgetpgrp(0));
        scenario_leave(6);
    }
    scenario_await("leader-ready"); scenario_await("shell-ready");
    struct termios t; must(tcgetattr(other, &t)); t.c_lflag &= ~ECHO; must(tcsetattr(other, TCSANOW, &t));
    scenario_wait();
    same(child, tcgetsid(master)); same(child, tcgetpgrp(master)); same(shell, tcgetsid(other));
    must(write(other, "line\n", 5));
    scenario_child(shell, 6);
    scenario_await("checked");
    must(write(master, "\003", 1));
    struct winsize w = { 40, 90, 0, 0 };
    must(ioctl(master, TIOCSWINSZ, &w));
    char text[64] = "", *end = text; long n;
    while (!strchr(text, '\n') && end < text + 50 && (n = read(master, end, 10)) > 0) end[n] = 0, end += n;
    while ((n = read(master, end, 10)) > 0) end[n] = 0, end += n;
    check(n < 0 && errno == EIO);
    if (!strstr(text, "good\r\n")) scenario_differs("the leader said \"%s\"", text);
    scenario_child(child, 5);
    return scenario_end();
}

// On the terminal that it was started on: settings of its own, descriptors on other numbers and by /dev/tty, the window's size, job control.
// What it finds it says on that terminal.
#include "scenario.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static struct termios mine, shells;
static volatile int resized, interrupted, continued;
static void on_winch(int s) { (void)s; resized++; }
static void on_int(int s) { (void)s; interrupted++; }
static void on_cont(int s) { (void)s; continued++; }
static void say(int fd, const char *format, ...) {
    char line[200]; va_list l;
    va_start(l, format); int n = vsnprintf(line, sizeof line, format, l); va_end(l);
    write(fd, line, n);
}
int main(int argc, char **argv) {
    int tty = must(open("/dev/tty", O_RDWR | O_NONBLOCK | O_CLOEXEC)), named = must(open(ttyname(0), O_WRONLY | O_NOCTTY | O_CLOEXEC)), copy = must(fcntl(0, F_DUPFD_CLOEXEC, 40));
    int leads = argc > 1 && !strcmp(argv[1], "leads"), had = tcgetpgrp(0) == getpgrp();
    must(tcgetattr(0, &shells));
    mine = shells;
    mine.c_lflag &= ~(ICANON | ECHO);
    mine.c_cc[VMIN] = 1; mine.c_cc[VTIME] = 0; mine.c_cc[VERASE] = 'Z' - 64 + 1;
    mine.c_iflag &= ~ICRNL;
    signal(SIGTTOU, SIG_IGN);
    if (had) must(tcsetattr(0, TCSANOW, &mine));
    signal(SIGTTOU, SIG_DFL);
    must(tcgetattr(0, &mine));
    struct winsize before, now;
    must(ioctl(0, TIOCGWINSZ, &before));
    struct sigaction a = { .sa_handler = on_winch }; sigaction(SIGWINCH, &a, NULL); a.sa_handler = on_int; sigaction(SIGINT, &a, NULL); a.sa_handler = on_cont; sigaction(SIGCONT, &a, NULL);
    if (leads) { same(getpid(), getsid(0)); same(getpid(), tcgetsid(0)); }
    scenario_wait();
    struct termios t;
    struct stat s, n;
    check(isatty(0) && isatty(tty) && isatty(named) && isatty(copy));
    check(ttyname(0) && ttyname(named) && !strcmp(ttyname_r(0, (char[64]) { 0 }, 64) ? "" : "x", "x"));
    must(fstat(0, &s)); must(fstat(named, &n)); same(s.st_rdev, n.st_rdev);
    same(0, syscall(SYS_kcmp, getpid(), getpid(), 0, 0, copy)); check(syscall(SYS_kcmp, getpid(), getpid(), 0, 0, named) != 0);
    same(O_NONBLOCK, fcntl(tty, F_GETFL) & O_NONBLOCK); same(0, fcntl(0, F_GETFL) & O_NONBLOCK); same(O_WRONLY, fcntl(named, F_GETFL) & O_ACCMODE);
    if (had) {
        same(getpgrp(), tcgetpgrp(0)); same(getpgrp(), tcgetpgrp(tty));
        must(tcgetattr(0, &t)); check(!memcmp(&mine, &t, sizeof t));
    }
    if (leads) { same(getpid(), getsid(0)); same(getpid(), tcgetsid(0)); }
    must(ioctl(0, TIOCGWINSZ, &now));
    int differs = memcmp(&before, &now, sizeof now) != 0;
    for (int i = 0; differs && !resized && i < 400; i++) usleep(5000);
    same(differs, resized);
    say(tty, "RESULT-%s %dx%d\n", scenario_bad ? "bad" : "good", now.ws_row, now.ws_col);
    fcntl(tty, F_SETFL, 0);
    for (;;) {
        struct pollfd p = { 0, POLLIN, 0 };
        int r = poll(&p, 1, 50);
        if (interrupted) { interrupted = 0; say(named, "INTERRUPT-seen\n"); }
        if (continued) { continued = 0; if (tcgetpgrp(0) == getpgrp()) { tcsetattr(0, TCSANOW, &mine); say(named, "CONTINUED-foreground\n"); } else scenario_touch("continued-background"); }
        char c;
        if (r <= 0 || read(copy, &c, 1) != 1) continue;
        say(1, "READ-%c\n", c);
        if (c == 'q') { tcsetattr(0, TCSANOW, &shells); return 3 + scenario_bad; }
    }
}

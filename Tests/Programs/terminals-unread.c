// What is unread in a pseudo-terminal: output, complete lines, ends of file, the line being edited, raw input; and its settings.
#include "scenario.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

struct pair { int master, slave; };
static struct pair make(void) { struct pair p; must(openpty(&p.master, &p.slave, NULL, NULL, NULL)); fcntl(p.master, F_SETFD, FD_CLOEXEC); return p; }
static void settings(int fd, tcflag_t iflag, tcflag_t oflag, tcflag_t lflag) {
    struct termios t;
    must(tcgetattr(fd, &t));
    t.c_iflag = iflag; t.c_oflag = oflag; t.c_lflag = lflag;
    must(tcsetattr(fd, TCSANOW, &t));
}
static void put(int fd, const char *s) { must(write(fd, s, strlen(s))); }
static void expect(int line, int fd, const char *wanted, long n) {
    char text[8192] = "";
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    long got = read(fd, text, sizeof text - 1);
    if (wanted == NULL) { if (got != -1 || errno != n) scenario_differs("line %d: read %ld \"%s\", not errno %ld but %s", line, got, text, n, strerror(errno)); return; }
    if (got != (long)strlen(wanted) || strcmp(text, wanted)) scenario_differs("line %d: read %ld \"%s\", not \"%s\" %s", line, got, text, wanted, got < 0 ? strerror(errno) : "");
}
#define expect(...) expect(__LINE__, __VA_ARGS__)

int main(void) {
    struct pair lines = make(), raw = make(), full = make(), literal = make();
    struct termios before, after;
    int unread;
    char big[9000];
    // Lines, an end of file, a partial line after a killed one; echo waits for the master.
    put(lines.master, "first\nsecond\nabc\004\004third");
    usleep(50000);
    put(lines.slave, "out\nput");
    // Raw bytes, all of which mean something in other settings.
    settings(raw.slave, 0, 0, 0);
    put(raw.master, "\003\004\032\021\023\026x\177\025\r\n\tend");
    // A buffer that is full, and more behind it that the line discipline has not seen: it holds a ^C and a newline.
    settings(full.slave, ICRNL, 0, ISIG);
    for (unsigned i = 0; i < sizeof big; i++) big[i] = 'a' + i % 26;
    must(write(full.master, big, 4095));
    usleep(20000);
    put(full.master, "one\rtwo");
    // The literal next character has been announced.
    put(literal.master, "a\026\nb\026");
    usleep(50000);
    must(tcgetattr(lines.slave, &before));
    scenario_wait();
    must(tcgetattr(lines.slave, &after));
    check(!memcmp(&before, &after, sizeof before));
    expect(lines.master, "first\r\nsecond\r\nabcthirdout\r\nput", 0);
    put(lines.master, "\177D!\n");
    usleep(50000);
    expect(lines.slave, "first\n", 0);
    expect(lines.slave, "second\n", 0);
    expect(lines.slave, "abc", 0);
    expect(lines.slave, "", 0);
    expect(lines.slave, "thirD!\n", 0);
    expect(lines.slave, NULL, EAGAIN);
    must(ioctl(raw.slave, FIONREAD, &unread));
    same(15, unread);
    expect(raw.slave, "\003\004\032\021\023\026x\177\025\r\n\tend", 0);
    // Only now is the rest looked at.
    long got = must(read(full.slave, big, 4095));
    same(4095, got);
    for (unsigned i = 0; i < 4095; i++) if (big[i] != 'a' + (int)(i % 26)) { scenario_differs("byte %u", i); break; }
    usleep(50000);
    expect(full.slave, "one\ntwo", 0);
    expect(full.slave, NULL, EAGAIN);
    put(literal.master, "\004\n");
    usleep(50000);
    expect(literal.slave, "a\nb\004\n", 0);
    expect(literal.slave, NULL, EAGAIN);
    return scenario_end();
}

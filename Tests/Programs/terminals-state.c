// What a pseudo-terminal is besides what is in it: stops, packet mode with its control byte, exclusive mode, the lock, an end that is closed or was never
// open, window size, flags of each description, mode of the node.
#include "scenario.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

static char names[8][64];
static int made;
struct pair { int master, slave; const char *name; };
static struct pair make(void) {
    struct pair p;
    must(openpty(&p.master, &p.slave, NULL, NULL, NULL));
    p.name = strcpy(names[made++], ttyname(p.slave));
    return p;
}
static void echo(struct pair p, int on) { struct termios t; must(tcgetattr(p.slave, &t)); if (on) t.c_lflag |= ECHO; else t.c_lflag &= ~ECHO; t.c_oflag &= ~OPOST; must(tcsetattr(p.slave, TCSANOW, &t)); }
static int ready(int fd, int events) { struct pollfd p = { fd, events, 0 }; poll(&p, 1, 0); return p.revents; }
static void put(int fd, const char *s) { must(write(fd, s, strlen(s))); }
static const char *get(int fd) { static char text[256]; struct pollfd p = { fd, POLLIN, 0 }; poll(&p, 1, 200); long n = ready(fd, POLLIN | POLLHUP) ? read(fd, text, sizeof text - 1) : -2; if (n < 0) snprintf(text, sizeof text, "<%s>", n == -2 ? "nothing" : strerror(errno)); else text[n] = 0; return text; }
#define expect(fd, wanted) do { const char *scenario_t = get(fd); if (strcmp(scenario_t, wanted)) scenario_differs("line %d: \"%s\", not \"%s\"", __LINE__, scenario_t, wanted); } while (0)

int main(void) {
    struct pair off = make(), held = make(), packet = make(), exclusive = make(), closed = make(), sized = make();
    int on = 1, value;
    // Stopped by TCOOFF, and by the STOP character; output that waits for the master in both.
    echo(off, 0); echo(held, 0);
    put(off.slave, "before"); put(off.master, "typed\n"); usleep(20000); must(tcflow(off.slave, TCOOFF));
    put(held.slave, "before"); put(held.master, "part\023"); usleep(20000);
    check(!(ready(off.slave, POLLOUT) & POLLOUT)); check(!(ready(held.slave, POLLOUT) & POLLOUT));
    // Packet mode, with a stop and a flush that have not been told yet.
    must(ioctl(packet.master, TIOCPKT, &on));
    must(tcflush(packet.slave, TCIFLUSH));
    must(tcflow(packet.slave, TCOOFF)); must(tcflow(packet.slave, TCOON));
    put(packet.slave, "data");
    must(ioctl(exclusive.slave, TIOCEXCL));
    // A slave that was open and is not; one that never was; one whose lock is on again.
    put(closed.slave, "last"); put(closed.master, "for the next\n"); usleep(20000);
    close(closed.slave);
    int unopened = must(posix_openpt(O_RDWR | O_NOCTTY)), locked = must(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK));
    must(unlockpt(unopened));
    struct winsize size = { 33, 101, 7, 9 }, now;
    must(ioctl(unopened, TIOCSWINSZ, &size)); must(ioctl(sized.master, TIOCSWINSZ, &size));
    struct termios t;
    must(tcgetattr(unopened, &t)); t.c_lflag = 0; t.c_cc[VMIN] = 7; cfsetspeed(&t, B9600); must(tcsetattr(unopened, TCSANOW, &t));
    // Descriptions of one slave, each with its flags.
    int reader = must(open(sized.name, O_RDONLY | O_NOCTTY | O_NONBLOCK)), writer = must(open(sized.name, O_WRONLY | O_NOCTTY)), again = dup(writer);
    must(fchmod(sized.slave, 0622));
    char link[64], self[64];
    scenario_wait();
    // The names are those of before where they could be had; each leads to its terminal in any case.
    struct stat s, n;
    must(fstat(sized.slave, &s));
    same(0622, s.st_mode & 07777);
    snprintf(self, sizeof self, "/proc/self/fd/%d", sized.slave);
    link[must(readlink(self, link, sizeof link - 1))] = 0;
    check(!strcmp(link, ttyname(sized.slave))); check(!strcmp(link, ptsname(sized.master)));
    must(stat(link, &n)); same(s.st_rdev, n.st_rdev);
    check(!strcmp(link, sized.name));
    same(O_RDONLY | O_NONBLOCK, fcntl(reader, F_GETFL) & ~0100000); same(O_WRONLY, fcntl(writer, F_GETFL) & ~0100000); same(O_RDWR, fcntl(sized.slave, F_GETFL) & ~0100000);
    same(0, syscall(SYS_kcmp, getpid(), getpid(), 0, writer, again)); check(syscall(SYS_kcmp, getpid(), getpid(), 0, reader, writer) != 0);
    same(O_NONBLOCK, fcntl(locked, F_GETFL) & O_NONBLOCK); same(0, fcntl(sized.master, F_GETFL) & O_NONBLOCK);
    must(ioctl(sized.slave, TIOCGWINSZ, &now)); check(!memcmp(&size, &now, sizeof now));
    // Stops.
    check(!(ready(off.slave, POLLOUT) & POLLOUT)); check(!(ready(held.slave, POLLOUT) & POLLOUT));
    expect(off.master, "before"); expect(held.master, "before");
    put(off.master, "\021"); usleep(20000); check(!(ready(off.slave, POLLOUT) & POLLOUT));
    must(tcflow(held.slave, TCOON)); check(!(ready(held.slave, POLLOUT) & POLLOUT));
    must(tcflow(off.slave, TCOON)); check(ready(off.slave, POLLOUT) & POLLOUT);
    put(held.master, "\021"); usleep(20000); check(ready(held.slave, POLLOUT) & POLLOUT);
    expect(off.slave, "typed\n"); put(held.master, "ial\n"); expect(held.slave, "partial\n");
    put(off.slave, "after"); expect(off.master, "after");
    // Packet mode.
    must(ioctl(packet.master, TIOCGPKT, &value)); same(1, value);
    check(ready(packet.master, POLLPRI) & POLLPRI);
    char text[64]; long got = must(read(packet.master, text, sizeof text));
    same(1, got); same(TIOCPKT_FLUSHREAD | TIOCPKT_START, text[0]);
    got = must(read(packet.master, text, sizeof text));
    same(5, got); check(!memcmp(text, "\0data", 5));
    check(!ready(packet.master, POLLPRI | POLLIN));
    // Exclusive mode, ends, lock.
    must(ioctl(exclusive.slave, TIOCGEXCL, &value)); same(1, value);
    must(ioctl(sized.slave, TIOCGEXCL, &value)); same(0, value);
    check(ready(closed.master, POLLIN) & POLLHUP); check(!(ready(unopened, POLLIN) & POLLHUP));
    expect(closed.master, "lastfor the next\r\n"); expect(closed.master, "<Input/output error>");
    int next = must(open(ptsname(closed.master), O_RDWR | O_NOCTTY)); expect(next, "for the next\n");
    must(ioctl(locked, TIOCGPTLCK, &value)); same(1, value); must(ioctl(unopened, TIOCGPTLCK, &value)); same(0, value);
    expect(unopened, "<nothing>");
    must(tcgetattr(unopened, &t)); same(0, t.c_lflag); same(7, t.c_cc[VMIN]); same(B9600, cfgetospeed(&t));
    must(ioctl(unopened, TIOCGWINSZ, &now)); check(!memcmp(&size, &now, sizeof now));
    next = must(open(ptsname(unopened), O_RDWR | O_NOCTTY)); put(unopened, "seven b"); expect(next, "seven b");
    return scenario_end();
}

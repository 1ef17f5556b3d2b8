// Much that is unread in pseudo-terminals, in both directions: 4 KB, 20 KB, 60 KB as far as the kernel takes it, and full ones of several histories;
// lines, an echo that waits for room, a line longer than the kernel keeps.  Nothing is lost, doubled or moved.
#include "scenario.h"
#include <pty.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

enum { MOST = 131072, PAIRS = 24 };
static struct pair { int master, slave, from, to; long held; unsigned seed; int lines; } pairs[PAIRS];
static int made;
static char text[MOST];

static char byte_at(struct pair *p, long i) { return p->lines && i % 80 == 79 ? '\n' : 'a' + (i * 7 + i / 26 + p->seed) % 26; }
static struct pair *make(int typed, tcflag_t oflag, tcflag_t lflag) {
    struct pair *p = pairs + made;
    struct termios t;
    must(openpty(&p->master, &p->slave, NULL, NULL, NULL));
    must(tcgetattr(p->slave, &t));
    t.c_iflag = 0; t.c_oflag = oflag; t.c_lflag = lflag;
    must(tcsetattr(p->slave, TCSANOW, &t));
    fcntl(p->master, F_SETFL, O_NONBLOCK); fcntl(p->slave, F_SETFL, O_NONBLOCK);
    p->from = typed ? p->master : p->slave; p->to = typed ? p->slave : p->master;
    p->seed = made++; p->lines = !!(lflag & ICANON);
    return p;
}
// At most `most` bytes, in pieces, until the kernel takes no more.
static void put(struct pair *p, long most, int piece) {
    for (int idle = 0; idle < 100 && p->held < most; ) {
        long n = most - p->held < piece ? most - p->held : piece;
        for (long i = 0; i < n; i++) text[i] = byte_at(p, p->held + i);
        n = write(p->from, text, n);
        if (n > 0) { p->held += n; idle = 0; } else { idle++; usleep(1000); }
    }
}
static long get(int fd, char *to) {
    long got = 0;
    for (int idle = 0; idle < 100; ) {
        long n = read(fd, to + got, MOST / 2 - got);
        if (n > 0) { got += n; idle = 0; } else { idle++; usleep(1000); }
    }
    return got;
}
static void used(struct pair *p) { put(p, MOST, 256); get(p->to, text); p->held = 0; }

int main(void) {
    static char echoes[MOST];
    for (int typed = 0; typed < 2; typed++) {
        for (int size = 0; size < 3; size++) put(make(typed, 0, 0), (long[]){ 4096, 20000, 60000 }[size], 256);
        put(make(typed, 0, 0), MOST, 1);
        put(make(typed, 0, 0), MOST, 1000);
        put(make(typed, 0, 0), MOST, 4096);
        struct pair *p = make(typed, 0, 0);
        used(p); put(p, MOST, 1000); put(p, MOST, 256); put(p, MOST, 1);
        p = make(typed, 0, ICANON);
        p->lines = 1; put(p, MOST, typed ? 400 : 1000);
        if (p->held < 8000) scenario_differs("only %ld bytes", p->held);
    }
    // Output that is full, and an echo of what was typed behind it.
    struct pair *echo = make(0, OPOST | ONLCR, ICANON | ECHO);
    echo->lines = 0;
    put(echo, MOST, 1000);
    memset(echoes, 'e', 2000); echoes[1999] = '\n';
    must(write(echo->master, echoes, 2000));
    // A line that is longer than the queue.
    struct pair *line = make(1, 0, ICANON);
    line->lines = 0; put(line, 5000, 256);
    usleep(100000);
    scenario_wait();
    for (int i = 0; i < made; i++) {
        struct pair *p = pairs + i;
        long got;
        if (p == line) { must(write(p->master, "\n", 1)); usleep(50000); p->held = 4096; }
        got = get(p->to, text);
        // What waits for room in neither buffer comes with the next write; a line that has not been ended is not read.
        if (p == echo) { must(write(p->from, "", 0)); got += get(p->to, text + got); }
        if (p->lines && p->from == p->master) { same(p->held - p->held % 80, got); must(write(p->from, "\n", 1)); usleep(50000); got += get(p->to, text + got) - 1; }
        if (p == echo) { same(p->held + 2001, got); for (long k = p->held; k < got; k++) if (text[k] != (k < got - 2 ? 'e' : k < got - 1 ? '\r' : '\n')) { scenario_differs("echo %ld: %d", k, text[k]); break; } got = p->held; }
        if (got != p->held) scenario_differs("pair %d: %ld bytes, had %ld", i, got, p->held);
        for (long k = 0; k < got && k < p->held; k++) if (text[k] != (p == line && k == 4095 ? '\n' : byte_at(p, k))) { scenario_differs("pair %d: byte %ld is %d", i, k, text[k]); break; }
    }
    same(1999 + 1, get(echo->slave, text));
    return scenario_end();
}

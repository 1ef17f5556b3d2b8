// A little of all that a checkpoint asks a leader about, or looks into through the session's shared memory.
#include "systemv.h"
#include <mqueue.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

enum { PAGE = 4096, PAGES = 8192, CHUNK_MAGIC = 0x4e555243, BACK_AT = 16 << 20 };
struct chunk { uint32_t magic, count; uint64_t next; uint32_t crc, pad; uint64_t pad2; };

int main(void) {
    for (int k = 0; k < 20; k++) {
        int s[2];
        must(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
        for (int i = 0; i < 5; i++) must(write(s[0], "hello", 5));
    }
    int master = must(posix_openpt(O_RDWR | O_NOCTTY));
    must(grantpt(master)); must(unlockpt(master));
    must(open(ptsname(master), O_RDWR | O_NOCTTY));
    sigset_t blocked;
    sigemptyset(&blocked); sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    raise(SIGUSR1);
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
    must(timer_create(CLOCK_REALTIME, &event, &timer));
    char name[64];
    snprintf(name, sizeof name, "/ckpt-segment-%d", getpid());
    mqd_t queue = must(mq_open(name, O_RDWR | O_CREAT, 0600, NULL));
    must(mq_send(queue, "message", 7, 1));
    mq_unlink(name);
    must(semget(IPC_PRIVATE, 3, 0600));
    struct { long type; char text[8]; } m = { 1, "message" };
    must(msgsnd(must(msgget(IPC_PRIVATE, 0600)), &m, 8, 0));
    // Memory that looks like an empty chunk of runs, wherever it comes to lie in a statefile: each names the one at BACK_AT.
    char *memory = must(mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (int i = 0; i < PAGES; i++) *(struct chunk *)(memory + (size_t)i * PAGE) = (struct chunk){ .magic = CHUNK_MAGIC, .next = BACK_AT };
    scenario_wait();
    return scenario_end();
}

// What the programs about System V IPC share: each object is noted in the scenario's folder, so that the harness removes what a failed one leaves behind.
#ifndef SYSTEMV_H
#define SYSTEMV_H
#include "scenario.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static int systemv_noted(char kind, int id) {
    char line[32];
    int e = errno, fd = id < 0 ? -1 : open(scenario_path("ipc"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) { fchmod(fd, 0666); write(fd, line, snprintf(line, sizeof line, "%c %d\n", kind, id)); close(fd); }
    errno = e;
    return id;
}
#define shmget(key, size, flags) systemv_noted('m', shmget(key, size, flags))
#define semget(key, count, flags) systemv_noted('s', semget(key, count, flags))
#define msgget(key, flags) systemv_noted('q', msgget(key, flags))
#endif

// What the programs about System V IPC and message queues share: each object is noted in the scenario's folder, and the harness removes what is left: a program
// that has ended in a namespace of a restart removes what it made there.
#ifndef SYSTEMV_H
#define SYSTEMV_H
#include "scenario.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static void systemv_note(char kind, const char *name) {
    char line[128];
    int e = errno, fd = open(scenario_path("ipc"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) { fchmod(fd, 0666); write(fd, line, snprintf(line, sizeof line, "%c %s\n", kind, name)); close(fd); }
    errno = e;
}
static int systemv_noted(char kind, int id) {
    char text[16];
    snprintf(text, sizeof text, "%d", id);
    if (id >= 0) systemv_note(kind, text);
    return id;
}
#define shmget(key, size, flags) systemv_noted('m', shmget(key, size, flags))
#define semget(key, count, flags) systemv_noted('s', semget(key, count, flags))
#define msgget(key, flags) systemv_noted('q', msgget(key, flags))
#endif

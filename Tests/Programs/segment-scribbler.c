// segment-scribbler SEGMENT cut | OFFSET:SIZE:VALUE:ALWAYS[:COUNT:STRIDE]…: writes the values again and again (ALWAYS 0: over what is not zero), as any process
// of the session's user may; or, when a checkpoint is under way, cuts the file off.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

struct place { uint64_t offset, size, value, always, count, stride; };

int main(int n, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int file = open(arguments[1], O_RDWR | O_CLOEXEC);
    struct stat s;
    if (file < 0 || fstat(file, &s) != 0) { perror(arguments[1]); return 1; }
    // Not the whole of it, so that nobody takes this for a member.
    size_t size = s.st_size - 4096;
    volatile char *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (m == MAP_FAILED) { perror("mmap"); return 1; }
    puts("ready"); fflush(stdout);
    if (strcmp(arguments[2], "cut") == 0) {
        volatile uint32_t *phase = (volatile uint32_t *)(m + strtoull(arguments[3], NULL, 0));
        while ((*phase & 31) == 0) usleep(100);
        return ftruncate(file, 0);
    }
    struct place places[16] = { 0 };
    int count = 0;
    for (int i = 2; i < n && count < 16; i++, count++) {
        struct place *p = &places[count];
        p->count = 1;
        if (sscanf(arguments[i], "%li:%li:%li:%li:%li:%li", (long *)&p->offset, (long *)&p->size, (long *)&p->value, (long *)&p->always, (long *)&p->count, (long *)&p->stride) < 4) return 2;
        p->value = strtoull(strchr(strchr(arguments[i], ':') + 1, ':') + 1, NULL, 0);
    }
    for (;;) for (int i = 0; i < count; i++) for (uint64_t k = 0; k < places[i].count; k++) {
        volatile char *at = m + places[i].offset + k * places[i].stride;
        if (places[i].size == 4) { if (places[i].always || *(volatile uint32_t *)at) *(volatile uint32_t *)at = (uint32_t)places[i].value; }
        else if (places[i].always || *(volatile uint64_t *)at) *(volatile uint64_t *)at = places[i].value;
    }
}

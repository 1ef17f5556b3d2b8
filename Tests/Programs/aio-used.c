// Contexts of asynchronous I/O that have been used, round their rings more than once, one with events that nobody has taken yet.
#include "scenario.h"
#include <linux/aio_abi.h>
static char text[64][8];
static void submit(aio_context_t context, int file, int count, uint64_t data) {
    for (int i = 0; i < count; i++) {
        struct iocb request = { .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = file, .aio_buf = (uintptr_t)text[i % 64], .aio_nbytes = 8, .aio_data = data + i }, *requests[] = { &request };
        same(1, syscall(SYS_io_submit, context, 1, requests));
    }
}
static void take(aio_context_t context, int count, uint64_t data) {
    for (int i = 0; i < count; i++) {
        struct io_event done;
        same(1, syscall(SYS_io_getevents, context, 1, 1, &done, NULL)); same(data + i, done.data); same(8, done.res);
    }
}
static unsigned word(aio_context_t context, int nth) { return ((unsigned *)context)[nth]; }
int main(void) {
    aio_context_t used = 0, unread = 0, round = 0;
    int file = must(open(scenario_path("file"), O_CREAT | O_RDWR, 0600));
    must(write(file, "contents", 8));
    must(syscall(SYS_io_setup, 32, &used)); must(syscall(SYS_io_setup, 32, &unread)); must(syscall(SYS_io_setup, 8, &round));
    for (int i = 0; i < 11; i++) { submit(used, file, 1, i); take(used, 1, i); }
    submit(unread, file, 9, 100); take(unread, 4, 100);
    for (unsigned i = 0; i < word(round, 1) - 3; i++) { submit(round, file, 1, i); take(round, 1, i); }
    submit(round, file, 5, 500);
    check(word(round, 3) < word(round, 2));         // its tail has gone round, its head has not
    unsigned before[3][4]; aio_context_t all[3] = { used, unread, round };
    for (int i = 0; i < 3; i++) for (int k = 0; k < 4; k++) before[i][k] = word(all[i], k);
    scenario_wait();
    for (int i = 0; i < 3; i++) for (int k = 1; k < 4; k++) same(before[i][k], word(all[i], k));
    struct io_event none; struct timespec now = { 0 };
    same(0, syscall(SYS_io_getevents, used, 0, 1, &none, &now));
    take(unread, 5, 104); take(round, 5, 500);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 300; k++) { submit(all[i], file, 1, k); take(all[i], 1, k); }
        submit(all[i], file, 8, 7000); take(all[i], 8, 7000);
        must(syscall(SYS_io_destroy, all[i]));
    }
    return scenario_end();
}

// Contexts of asynchronous I/O that nothing was given to, as servers make them in case: they keep their names and work; one tells an eventfd.
#include "scenario.h"
#include <linux/aio_abi.h>
#include <sys/eventfd.h>
static void use(aio_context_t context, int file, int event) {
    char text[16] = ""; uint64_t told = 0;
    struct iocb request = { .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = file, .aio_buf = (uintptr_t)text, .aio_nbytes = 8, .aio_data = 77, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = event }, *requests[] = { &request };
    must(1 - syscall(SYS_io_submit, context, 1, requests) ? -1 : 0);
    struct io_event done;
    same(1, syscall(SYS_io_getevents, context, 1, 1, &done, NULL)); same(77, done.data); same(8, done.res); check(!memcmp(text, "contents", 8));
    same(8, read(event, &told, 8)); same(1, told);
}
int main(void) {
    aio_context_t few = 0, many = 0, gone = 0;
    must(syscall(SYS_io_setup, 32, &few)); must(syscall(SYS_io_setup, 1000, &gone)); must(syscall(SYS_io_setup, 2000, &many)); must(syscall(SYS_io_destroy, gone));
    int event = must(eventfd(0, EFD_NONBLOCK)), file = must(open(scenario_path("file"), O_CREAT | O_RDWR, 0600));
    must(write(file, "contents", 8));
    unsigned sizes[2] = { ((unsigned *)few)[1], ((unsigned *)many)[1] };
    scenario_wait();
    same(sizes[0], ((unsigned *)few)[1]); same(sizes[1], ((unsigned *)many)[1]);
    for (int i = 0; i < 300; i++) { use(few, file, event); use(many, file, event); }
    check(syscall(SYS_io_destroy, gone) < 0 && errno == EINVAL);
    must(syscall(SYS_io_destroy, few)); must(syscall(SYS_io_destroy, many));
    return scenario_end();
}

// Memory shared between processes, anonymous and of a file: what one writes afterwards the other sees, and so does the file.
#include "scenario.h"
#include <linux/futex.h>
enum { P = 4096 };
struct page { volatile uint32_t word, reply[2]; char rest[64]; };
int main(void) {
    struct page *anonymous = must(mmap(NULL, 16 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int fd = must(open(scenario_path("shared.dat"), O_RDWR | O_CREAT, 0600));
    must(ftruncate(fd, 16 * P));
    char *file = must(mmap(NULL, 16 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    char *again = must(mmap(NULL, 4 * P, PROT_READ, MAP_SHARED, fd, 8 * P));     // another view of the same file
    scenario_fill((char *)anonymous + 4 * P, 4 * P, 3);
    scenario_fill(file + 8 * P, P, 4);
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        if ((children[i] = must(fork()))) continue;
        if (i) munmap((char *)anonymous + 12 * P, 4 * P);      // only a part of it is mapped here
        char name[16];
        snprintf(name, sizeof name, "child-%d", i);
        scenario_touch(name);
        while (!anonymous->word) syscall(SYS_futex, &anonymous->word, FUTEX_WAIT, 0, NULL, NULL, 0);
        same(-1, scenario_compare((char *)anonymous + 4 * P, 4 * P, 3));
        same(-1, scenario_compare(again, P, 4));
        file[i] = 'a' + i;
        anonymous->reply[i] = 100 + i;
        scenario_leave(i);
    }
    scenario_await("child-0");
    scenario_await("child-1");
    close(fd);
    scenario_wait();
    same(-1, scenario_compare((char *)anonymous + 4 * P, 4 * P, 3));
    anonymous->word = 1;
    syscall(SYS_futex, &anonymous->word, FUTEX_WAKE, 10, NULL, NULL, 0);
    for (int i = 0; i < 2; i++) scenario_child(children[i], i);
    same(100, anonymous->reply[0]);
    same(101, anonymous->reply[1]);
    file[8 * P + 1] = 'z';
    same('z', again[1]);
    char byte[3] = "";
    fd = must(open(scenario_path("shared.dat"), O_RDONLY));
    must(pread(fd, byte, 2, 0));
    check(!strcmp(byte, "ab"));
    must(pread(fd, byte, 1, 8 * P + 1));
    same('z', byte[0]);
    return scenario_end();
}

// Memory that changes between two checkpoints in every way that a delta must not miss: "ready", "change", "changed", "go".
#include "scenario.h"
#include <sys/ipc.h>
#include <sys/shm.h>
enum { P = 4096, N = 64 };
static char *map(size_t pages, int flags, int fd) { return must(mmap(NULL, pages * P, PROT_READ | PROT_WRITE, flags, fd, 0)); }
static int stack_depth(int n) { volatile char page[P]; memset((void *)page, n, P); return n == 0 ? page[7] : stack_depth(n - 1) + page[7]; }
struct shared { volatile int told, done; };

int main(void) {
    char *plain = map(N, MAP_PRIVATE | MAP_ANONYMOUS, -1), *again = map(N, MAP_PRIVATE | MAP_ANONYMOUS, -1), *moved = map(N, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    char *same_again = map(N, MAP_PRIVATE | MAP_ANONYMOUS, -1), *quiet = map(2048, MAP_PRIVATE | MAP_ANONYMOUS, -1), *far = map(4 * N, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    scenario_fill(plain, N * P, 1); scenario_fill(again, N * P, 2); scenario_fill(moved, N * P, 3); scenario_fill(same_again, N * P, 4); scenario_fill(quiet, 2048 * P, 5);
    char *ours = map(N, MAP_SHARED | MAP_ANONYMOUS, -1);
    scenario_fill(ours, N * P, 6);
    struct shared *word = (void *)map(1, MAP_SHARED | MAP_ANONYMOUS, -1);
    int memory = must(memfd_create("delta", MFD_CLOEXEC));
    must(ftruncate(memory, N * P));
    char *file = map(N, MAP_SHARED, memory);
    scenario_fill(file, N * P, 7);
    int closed = must(memfd_create("closed", MFD_CLOEXEC));
    must(ftruncate(closed, N * P));
    char *held = map(N, MAP_SHARED, closed);
    scenario_fill(held, N * P, 8);
    close(closed);
    int disk = must(open(scenario_path("disk"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    char line[P];
    for (int i = 0; i < N; i++) { memset(line, 'a' + i % 20, P); must(pwrite(disk, line, P, i * P)); }
    char *copied = map(N, MAP_PRIVATE, disk);
    memset(copied + 3 * P, 'X', 2 * P);
    int segment = must(shmget(IPC_PRIVATE, N * P, IPC_CREAT | 0600));
    char *attached = must((char *)shmat(segment, NULL, 0));
    scenario_fill(attached, N * P, 9);
    char *heap = must((char *)sbrk(8 * P));
    scenario_fill(heap, 8 * P, 10);

    pid_t child = must(fork());
    if (child == 0) {
        while (!word->told) usleep(2000);
        scenario_fill(ours + 9 * P, P, 60);             // unseen by the parent's page table
        plain[5] = 'c';
        word->done = 1;
        scenario_await("go");
        check(scenario_compare(quiet, 2048 * P, 5) < 0);
        same('c', plain[5]);
        scenario_leave(7);
    }
    scenario_touch("ready");
    scenario_await("change");

    scenario_fill(plain + 3 * P, P, 11);
    must(madvise(plain + 5 * P, 3 * P, MADV_DONTNEED));
    memset(plain + 9 * P, 0, P);
    plain[20 * P] ^= 1;
    plain[21 * P] ^= 1; plain[21 * P] ^= 1;             // written, and as it was
    must(munmap(again, N * P));
    must(mmap(again, N * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    scenario_fill(again + 8 * P, P, 12);
    must(munmap(same_again, N * P));
    must(mmap(same_again, N * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    scenario_fill(same_again, N * P, 4);
    must(mremap(moved, N * P, N * P, MREMAP_MAYMOVE | MREMAP_FIXED, far + N * P));
    must(mmap(moved, N * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    word->told = 1;
    while (!word->done) usleep(2000);
    scenario_fill(file + 2 * P, P, 13);
    must(ftruncate(memory, 8 * P));
    must(ftruncate(memory, N * P));
    memset(held + 5 * P, 0, 2 * P);
    scenario_fill(held + 8 * P, P, 15);
    must(madvise(copied + 3 * P, P, MADV_DONTNEED));
    copied[30 * P] = '!';
    scenario_fill(attached + 4 * P, P, 14);
    char *more = must((char *)sbrk(8 * P));
    memset(more, 5, 8 * P);
    int deep = stack_depth(40);
    pid_t late = must(fork());
    if (late == 0) {
        plain[2] = 'l';
        scenario_await("go");
        same('l', plain[2]);
        check(scenario_compare(quiet, 2048 * P, 5) < 0);
        scenario_leave(8);
    }
    scenario_touch("changed");
    scenario_await("go");

    check(scenario_compare(plain + 3 * P, P, 11) < 0);
    check(scenario_nonzero(plain + 5 * P, 3 * P) < 0);
    check(scenario_nonzero(plain + 9 * P, P) < 0);
    plain[20 * P] ^= 1;
    check(scenario_compare(plain, 3 * P, 1) < 0);
    check(scenario_compare(plain + 20 * P, 4 * P, 1 + 20 * 512) < 0);
    check(scenario_nonzero(again, 8 * P) < 0);
    check(scenario_compare(again + 8 * P, P, 12) < 0);
    check(scenario_nonzero(again + 9 * P, (N - 9) * P) < 0);
    check(scenario_compare(same_again, N * P, 4) < 0);
    check(scenario_compare(far + N * P, N * P, 3) < 0);
    check(scenario_nonzero(moved, N * P) < 0);
    check(scenario_nonzero(far, N * P) < 0);
    check(scenario_compare(quiet, 2048 * P, 5) < 0);
    check(scenario_compare(ours, 9 * P, 6) < 0);
    check(scenario_compare(ours + 9 * P, P, 60) < 0);
    check(scenario_compare(ours + 10 * P, 9 * P, 6 + 10 * 512) < 0);
    check(scenario_compare(file, 2 * P, 7) < 0);
    check(scenario_compare(file + 2 * P, P, 13) < 0);
    check(scenario_nonzero(file + 8 * P, (N - 8) * P) < 0);
    check(scenario_compare(held, 5 * P, 8) < 0);
    check(scenario_nonzero(held + 5 * P, 2 * P) < 0);
    check(scenario_compare(held + 7 * P, P, 8 + 7 * 512) < 0);
    check(scenario_compare(held + 8 * P, P, 15) < 0);
    same('d', copied[3 * P]); same('X', copied[4 * P + 17]); same('!', copied[30 * P]); same('a' + 30 % 20, copied[30 * P + 1]);
    check(scenario_compare(attached, 4 * P, 9) < 0);
    check(scenario_compare(attached + 4 * P, P, 14) < 0);
    check(scenario_compare(heap, 8 * P, 10) < 0);
    for (int i = 0; i < 8 * P; i++) if (more[i] != 5) { scenario_differs("heap byte %d", i); break; }
    same(deep, stack_depth(40));
    must(shmctl(segment, IPC_RMID, NULL));
    scenario_child(child, 7);
    scenario_child(late, 8);
    return scenario_end();
}

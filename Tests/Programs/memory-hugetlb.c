// Memory on hugetlb pages: private, shared between processes, a memfd; contents, page size, and what is written afterwards.
#include "scenario.h"
enum { H = 2 << 20 };
static int huge_pages_at(void *at) {
    char line[256];
    FILE *f = fopen("/proc/self/smaps", "re");
    int inside = 0, kb = 0;
    unsigned long a, b;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &a, &b) == 2) inside = a <= (unsigned long)at && (unsigned long)at < b;
        else if (inside && sscanf(line, "KernelPageSize: %d", &kb) == 1) break;
    }
    fclose(f);
    return kb;
}
int main(void) {
    char *private = mmap(NULL, 2 * H, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    char *shared = mmap(NULL, H, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    int fd = memfd_create("large", MFD_HUGETLB);
    if (private == MAP_FAILED || shared == MAP_FAILED || fd < 0) { scenario_wait(); return scenario_end(); }    // no huge pages here
    must(ftruncate(fd, H));
    char *file = must(mmap(NULL, H, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    scenario_fill(private, H, 1);
    scenario_fill(shared, 8192, 2);
    scenario_fill(file + 40960, 4096, 3);
    int pipes[2];
    must(pipe(pipes));
    pid_t child = must(fork());
    if (!child) {
        char byte;
        must(read(pipes[0], &byte, 1));
        same(-1, scenario_compare(shared, 8192, 2));
        shared[H - 1] = 7;
        scenario_leave(0);
    }
    scenario_wait();
    same(2048, huge_pages_at(private)); same(2048, huge_pages_at(shared)); same(2048, huge_pages_at(file));
    same(-1, scenario_compare(private, H, 1));
    same(-1, scenario_nonzero(private + H, H));
    same(-1, scenario_compare(shared, 8192, 2));
    same(-1, scenario_compare(file + 40960, 4096, 3));
    must(write(pipes[1], "x", 1));
    scenario_child(child, 0);
    same(7, shared[H - 1]);
    file[0] = 5;
    char byte = 0;
    same(1, pread(fd, &byte, 1, 0)); same(5, byte);
    return scenario_end();
}

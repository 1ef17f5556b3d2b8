// A library that was loaded and a file that is mapped, with a modified page: both are what they were, wherever they come from.
#include "scenario.h"
#include <dlfcn.h>
static char *map(int protection) {
    int fd = must(open(scenario_path("data"), O_RDONLY));
    char *m = must(mmap(NULL, 16384, protection, MAP_PRIVATE, fd, 0));
    close(fd);
    return m;
}
int main(void) {
    void *library = dlopen(scenario_path("library.so"), RTLD_NOW);
    if (!library) { printf("%s\n", dlerror()); return 9; }
    unsigned long (*sum)(unsigned long, const char *, unsigned) = dlsym(library, "crc32"), before = sum(0, "some text", 9);
    char *read_only = map(PROT_READ), *changed = map(PROT_READ | PROT_WRITE), copy[16384];
    memcpy(copy, read_only, sizeof copy);
    changed[5000] = 'x';
    scenario_wait();
    same(before, sum(0, "some text", 9));
    check(!memcmp(copy, read_only, sizeof copy));
    copy[5000] = 'x';
    check(!memcmp(copy, changed, sizeof copy));
    return scenario_end();
}

// A thousand opens of one file at one position: every third pair is shared, all others are apart.
#include "scenario.h"
enum { count = 900 };
int main(void) {
    int fd[count];
    struct rlimit limit; getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 1200) { limit.rlim_cur = limit.rlim_max < 1200 ? limit.rlim_max : 1200; setrlimit(RLIMIT_NOFILE, &limit); }
    must(write(must(open(scenario_path("many"), O_RDWR | O_CREAT, 0600)), "many", 4));
    for (int i = 0; i < count; i++) fd[i] = i % 3 == 2 ? must(dup(fd[i - 1])) : must(open(scenario_path("many"), O_RDONLY));
    scenario_wait();
    for (int i = 0; i < count; i++) if (i % 3 != 2) must(lseek(fd[i], i, SEEK_SET));
    for (int i = 0; i < count; i++) same(i % 3 == 2 ? i - 1 : i, lseek(fd[i], 0, SEEK_CUR));
    return scenario_end();
}

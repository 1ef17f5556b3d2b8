// Counts in memory and in a file, without a pause; when told to end, both must have the same number of records, each in its place.
#include "scenario.h"
int main(void) {
    int fd = must(open(scenario_path("counter"), O_RDWR | O_CREAT | O_TRUNC, 0600));
    uint64_t n = 0;
    scenario_touch("ready");
    while (n % 64 || !scenario_exists("go")) {
        must(pwrite(fd, &n, sizeof n, n * 8 % 65536));
        n++;
        if (n % 1024 == 0) usleep(1000);
    }
    uint64_t records[8192];
    int have = must(pread(fd, records, sizeof records, 0)) / 8;
    for (int i = 0; i < have; i++) {
        uint64_t last = n - 1 - (n - 1 - i) % 8192;     // the last number that went to place i
        same(last, records[i]);
        if (scenario_bad) break;
    }
    return scenario_end();
}

// The vdso's clocks: none goes backwards, the monotonic one does not jump, the functions that libc remembers still work.
#include "scenario.h"
#include <sys/auxv.h>
static int64_t stamp(clockid_t c) { struct timespec t; must(clock_gettime(c, &t)); return t.tv_sec * 1000000000ll + t.tv_nsec; }
static int64_t kernel(clockid_t c) { struct timespec t; must(syscall(SYS_clock_gettime, c, &t)); return t.tv_sec * 1000000000ll + t.tv_nsec; }
int main(void) {
    clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_TAI };
    int64_t before[7];
    for (int i = 0; i < 7; i++) before[i] = stamp(clocks[i]);
    unsigned cpu;
    unsigned char *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
    check(!memcmp(vdso, "\177ELF", 4));
    scenario_wait();
    check(!memcmp(vdso, "\177ELF", 4));
    same(vdso, getauxval(AT_SYSINFO_EHDR));
    for (int i = 0; i < 7; i++) {
        int64_t after = stamp(clocks[i]), raw = kernel(clocks[i]), third = stamp(clocks[i]);
        if (after < before[i]) scenario_differs("clock %d went back by %lld ns", clocks[i], (long long)(before[i] - after));
        if (after - before[i] > 60000000000ll) scenario_differs("clock %d jumped by %lld ns", clocks[i], (long long)(after - before[i]));
        check(after <= raw && raw <= third);                // the vdso and the kernel agree
    }
    struct timeval v;
    must(gettimeofday(&v, NULL));
    check(llabs(v.tv_sec - time(NULL)) <= 1);
    same(0, getcpu(&cpu, NULL));
    struct timespec t = { 0, 30000000 };
    int64_t start = stamp(CLOCK_MONOTONIC);
    nanosleep(&t, NULL);
    check(stamp(CLOCK_MONOTONIC) - start >= 30000000);
    return scenario_end();
}

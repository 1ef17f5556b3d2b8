// General, SSE, AVX and AVX-512 registers, x87 and MXCSR control words of threads that compute without any call.
#include "scenario.h"
#include <cpuid.h>
static volatile int flag, up;
static int has_avx, has_avx512;

// Loads patterns, spins until the flag is set, stores what the registers hold then.
__attribute__((target("avx"))) static void spin_ymm(const uint8_t *in, uint8_t *out) {
    __asm__ volatile(
        "vmovdqu (%0), %%ymm0\n vmovdqu 32(%0), %%ymm1\n vmovdqu 64(%0), %%ymm7\n vmovdqu 96(%0), %%ymm8\n vmovdqu 128(%0), %%ymm15\n"
        "1: pause\n cmpl $0, (%2)\n je 1b\n"
        "vmovdqu %%ymm0, (%1)\n vmovdqu %%ymm1, 32(%1)\n vmovdqu %%ymm7, 64(%1)\n vmovdqu %%ymm8, 96(%1)\n vmovdqu %%ymm15, 128(%1)\n vzeroupper\n"
        :: "r"(in), "r"(out), "r"(&flag) : "memory", "cc", "xmm0", "xmm1", "xmm7", "xmm8", "xmm15");
}
__attribute__((target("avx512f,avx512bw"))) static void spin_zmm(const uint8_t *in, uint8_t *out) {
    __asm__ volatile(
        "vmovdqu64 (%0), %%zmm0\n vmovdqu64 64(%0), %%zmm16\n vmovdqu64 128(%0), %%zmm31\n kmovq 192(%0), %%k1\n kmovq 200(%0), %%k7\n"
        "1: pause\n cmpl $0, (%2)\n je 1b\n"
        "vmovdqu64 %%zmm0, (%1)\n vmovdqu64 %%zmm16, 64(%1)\n vmovdqu64 %%zmm31, 128(%1)\n kmovq %%k1, 192(%1)\n kmovq %%k7, 200(%1)\n vzeroupper\n"
        :: "r"(in), "r"(out), "r"(&flag) : "memory", "cc", "xmm0");
}
static void spin_general(const uint64_t *in, uint64_t *out) {
    __asm__ volatile(
        "push %%rbp\n push %%rbx\n push %0\n push %1\n push %2\n mov %0, %%rax\n mov %2, %%rcx\n"
        "mov (%%rax), %%rbx\n mov 8(%%rax), %%rdx\n mov 16(%%rax), %%rbp\n mov 24(%%rax), %%r8\n mov 32(%%rax), %%r9\n mov 40(%%rax), %%r10\n"
        "mov 48(%%rax), %%r11\n mov 56(%%rax), %%r12\n mov 64(%%rax), %%r13\n mov 72(%%rax), %%r14\n mov 80(%%rax), %%r15\n"
        "1: pause\n cmpl $0, (%%rcx)\n je 1b\n"
        "pop %%rcx\n pop %%rax\n"
        "mov %%rbx, (%%rax)\n mov %%rdx, 8(%%rax)\n mov %%rbp, 16(%%rax)\n mov %%r8, 24(%%rax)\n mov %%r9, 32(%%rax)\n mov %%r10, 40(%%rax)\n"
        "mov %%r11, 48(%%rax)\n mov %%r12, 56(%%rax)\n mov %%r13, 64(%%rax)\n mov %%r14, 72(%%rax)\n mov %%r15, 80(%%rax)\n"
        "pop %%rax\n pop %%rbx\n pop %%rbp\n"
        :: "S"(in), "D"(out), "c"(&flag) : "memory", "cc", "rax", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
}
static void *general(void *seed) {
    uint64_t in[11], out[11];
    scenario_fill(in, sizeof in, (long)seed);
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    spin_general(in, out);
    check(!memcmp(in, out, sizeof in));
    return NULL;
}
static void *vector(void *seed) {
    uint8_t in[256], out[256] = { 0 };
    scenario_fill(in, sizeof in, (long)seed);
    size_t n = has_avx512 ? 208 : 160;
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    if (has_avx512) spin_zmm(in, out); else if (has_avx) spin_ymm(in, out); else n = 0;
    check(!memcmp(in, out, n));
    return NULL;
}
static void *control(void *unused) {
    (void)unused;
    uint32_t mxcsr = 0x1f80 | 0x6000 | 0x8000, after = 0;       // round towards zero, flush to zero
    uint16_t x87 = 0x0f7f, x87_after = 0;                       // round towards zero
    __asm__ volatile("ldmxcsr %0\n fldcw %1" :: "m"(mxcsr), "m"(x87));
    long double pi, back;
    __asm__ volatile("fldpi\n fld %%st(0)\n fstpt %0" : "=m"(pi));
    __atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
    __asm__ volatile("1: pause\n cmpl $0, %0\n je 1b" :: "m"(flag) : "cc");
    __asm__ volatile("fstpt %0\n stmxcsr %1\n fnstcw %2" : "=m"(back), "=m"(after), "=m"(x87_after));
    check(!memcmp(&pi, &back, 10));
    same(mxcsr, after & ~0x3f);
    same(x87, x87_after);
    return NULL;
}
int main(void) {
    has_avx = __builtin_cpu_supports("avx");
    has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    pthread_t threads[5];
    must0(pthread_create(&threads[0], NULL, general, (void *)1));
    must0(pthread_create(&threads[1], NULL, general, (void *)77));
    must0(pthread_create(&threads[2], NULL, vector, (void *)5));
    must0(pthread_create(&threads[3], NULL, vector, (void *)900));
    must0(pthread_create(&threads[4], NULL, control, NULL));
    while (up < 5) usleep(1000);
    usleep(20000);
    scenario_wait();
    flag = 1;
    for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
    return scenario_end();
}

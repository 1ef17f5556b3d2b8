// The functions that a compiler may call whatever the language, hidden, so that no libc is touched.
// They run wherever the runtime and the engine run: in signal handlers, on any stack, before relocation; they use no stack of note.
#include "ckpt_memory.h"
#include "ckpt_syscall.h"

void *memcpy(void *d, const void *s, size_t n) {
    void *r = d;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) :: "memory");
    return r;
}
void *memset(void *d, int c, size_t n) {
    void *r = d;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return r;
}
void *memmove(void *d, const void *s, size_t n) {
    char *D = d; const char *S = s;
    if (D <= S || D >= S + n) return memcpy(d, s, n);
    while (n) { n--; ((volatile char *)D)[n] = S[n]; }
    return d;
}
int memcmp(const void *a, const void *b, size_t n) {
    const volatile unsigned char *x = a, *y = b;
    for (; n; n--, x++, y++) if (*x != *y) return *x - *y;
    return 0;
}
int bcmp(const void *a, const void *b, size_t n) { return memcmp(a, b, n); }
size_t strlen(const char *s) {
    const volatile char *p = s;
    while (*p) p++;
    return (size_t)(p - s);
}
// A debug build reports traps through putchar; libc's stdio stays out.
int putchar(int c) { char b = (char)c; ckpt_write(2, &b, 1); return c; }

// Entry of the freestanding programs (the engine, ckrun): the kernel jumps to _start with argc, argv, envp and auxv on the initial stack.
// Nothing is relocated before boot_entry has run, so neither function may read a pointer from .data.rel.ro.
#include "engine_boot.h"

typedef struct { uint64_t off, info; int64_t add; } Rela;
typedef struct { int64_t tag; uint64_t val; } Dyn;
extern Dyn _DYNAMIC[] __attribute__((weak, visibility("hidden")));
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
extern _Noreturn void ckpt_start(uint64_t *sp) __attribute__((visibility("hidden")));    // Swift

void boot_relocate_at(uint64_t base) {
    Dyn *d = (Dyn *)(base + ((uint64_t)_DYNAMIC - (uint64_t)__ehdr_start));
    uint64_t rela = 0, n = 0;
    for (; d->tag; d++) { if (d->tag == 7) rela = base + d->val; else if (d->tag == 8) n = d->val / sizeof(Rela); }
    for (Rela *r = (Rela *)rela; n--; r++) if ((r->info & 0xffffffff) == 8) *(uint64_t *)(base + r->off) = base + (uint64_t)r->add;
}
uint64_t boot_image_start(void) { return (uint64_t)__ehdr_start & ~4095ull; }
uint64_t boot_image_end(void) { return ((uint64_t)_end + 4095) & ~4095ull; }

__attribute__((used)) void boot_entry(uint64_t *sp) {
    boot_relocate_at((uint64_t)__ehdr_start);
    ckpt_start(sp);
}
__attribute__((naked, used)) void _start(void) {
    __asm__ volatile("xorl %ebp, %ebp\n\tmovq %rsp, %rdi\n\tandq $-16, %rsp\n\tcall boot_entry\n\tud2");
}

// Runs in the engine only, on the engine's own stacks: what Swift can't say.  No libc, no relocation needed.
#include "engine_state.h"

static struct engine_state state;
struct engine_state *engine_state(void) { return &state; }
static struct engine_template template;
struct engine_template *engine_template(void) { return &template; }

__attribute__((naked)) void boot_continue_at(void (*entry)(uint64_t), uint64_t from, uint64_t to, uint64_t stack_top, uint64_t argument) {
    __asm__ volatile(
        "subq %rsi, %rdi\n\t"
        "addq %rdx, %rdi\n\t"
        "movq %rcx, %rsp\n\t"
        "andq $-16, %rsp\n\t"
        "xorl %ebp, %ebp\n\t"
        "movq %rdi, %rax\n\t"
        "movq %r8, %rdi\n\t"
        "callq *%rax\n\t"
        "ud2");
}
__attribute__((naked)) void boot_resume(uint64_t rsp, uint64_t rip) {
    __asm__ volatile("movq %rdi, %rsp\n\tjmpq *%rsi");
}

// The naked parts of the signal handler.  They run on the application's stack in the interrupted task, or between two stacks; they touch nothing else.
#include "preload_boot.h"

struct ckpt_runtime ckpt_runtime_;
struct ckpt_buffers ckpt_buffers_;
__attribute__((visibility("default"))) const unsigned ckpt_runtime_version = CKPT_ABI_VERSION;

extern void ckpt_on_signal(int, struct ckpt_siginfo *, struct ckpt_ucontext *);                 // Swift
extern void ckpt_runtime_start(char *_Nullable *_Nullable envp);                                 // Swift
uint64_t ckpt_handler_address(void) { return (uint64_t)&ckpt_on_signal; }

// The argument first: a checkpoint between the two stores must not call the new hook with the old argument.
__attribute__((visibility("default"))) int ckpt_set_hook(ckpt_hook hook, void *argument) {
    __atomic_store_n(&ckpt_runtime_.hook, (ckpt_hook)0, __ATOMIC_RELEASE);
    ckpt_runtime_.hook_argument = argument;
    __atomic_store_n(&ckpt_runtime_.hook, hook, __ATOMIC_RELEASE);
    return ckpt_runtime_.session != 0;
}

__attribute__((constructor)) static void constructor(int argc, char **argv, char **envp) {
    // glibc passes what the kernel laid out; musl passes nothing.
    ckpt_runtime_start(argc >= 0 && envp == argv + argc + 1 ? envp : 0);
}

// gdb and the unwinders know a signal frame by this name and these exact bytes, where no unwind table covers them; they look at the byte before, too.
__asm__(".pushsection .text.__restore_rt,\"ax\",@progbits\n\tnop\n"
        ".globl __restore_rt\n.hidden __restore_rt\n.type __restore_rt,@function\n"
        "__restore_rt:\n\tmovq $15, %rax\n\tsyscall\n\tud2\n"
        ".size __restore_rt, .-__restore_rt\n.popsection\n");
extern const char __restore_rt[] __attribute__((visibility("hidden")));
uint64_t ckpt_restorer_address(void) { return (uint64_t)__restore_rt; }

__attribute__((naked)) uint32_t ckpt_call_on_stack(uint32_t (*fn)(void *), void *argument, void *top) {
    __asm__ volatile(
        "pushq %rbp\n\t"
        ".cfi_def_cfa_offset 16\n\t.cfi_offset %rbp, -16\n\t"
        "movq %rsp, %rbp\n\t"
        ".cfi_def_cfa_register %rbp\n\t"
        "movq %rdx, %rsp\n\t"
        "movq %rdi, %rax\n\t"
        "movq %rsi, %rdi\n\t"
        "call *%rax\n\t"
        "movq %rbp, %rsp\n\t"
        "popq %rbp\n\t"
        ".cfi_def_cfa %rsp, 8\n\t"
        "ret");
}

// resume_rip and resume_rsp are all that the engine needs: everything else that the handler holds is on the stack that they name.
__attribute__((naked)) uint32_t ckpt_park(struct ckpt_task *slot, uint32_t (*fn)(void *), void *argument) {
    __asm__ volatile(
        "pushq %%rbp\n\t.cfi_adjust_cfa_offset 8\n\t.cfi_rel_offset %%rbp, 0\n\t"
        "pushq %%rbx\n\t.cfi_adjust_cfa_offset 8\n\t.cfi_rel_offset %%rbx, 0\n\t"
        "pushq %%r12\n\t.cfi_adjust_cfa_offset 8\n\t.cfi_rel_offset %%r12, 0\n\t"
        "pushq %%r13\n\t.cfi_adjust_cfa_offset 8\n\t.cfi_rel_offset %%r13, 0\n\t"
        "pushq %%r14\n\t.cfi_adjust_cfa_offset 8\n\t.cfi_rel_offset %%r14, 0\n\t"
        "pushq %%r15\n\t.cfi_adjust_cfa_offset 8\n\t.cfi_rel_offset %%r15, 0\n\t"
        "subq $8, %%rsp\n\t.cfi_adjust_cfa_offset 8\n\t"
        "leaq 1f(%%rip), %%rax\n\t"
        "movq %%rax, %c[rip](%%rdi)\n\t"
        "movq %%rsp, %c[rsp](%%rdi)\n\t"
        "movq %%rdx, %%rdi\n\t"
        "call *%%rsi\n\t"
        "jmp 2f\n"
        "1:\tmovl $1, %%eax\n\t"
        "cld\n"
        "2:\taddq $8, %%rsp\n\t.cfi_adjust_cfa_offset -8\n\t"
        "popq %%r15\n\t.cfi_adjust_cfa_offset -8\n\t.cfi_restore %%r15\n\t"
        "popq %%r14\n\t.cfi_adjust_cfa_offset -8\n\t.cfi_restore %%r14\n\t"
        "popq %%r13\n\t.cfi_adjust_cfa_offset -8\n\t.cfi_restore %%r13\n\t"
        "popq %%r12\n\t.cfi_adjust_cfa_offset -8\n\t.cfi_restore %%r12\n\t"
        "popq %%rbx\n\t.cfi_adjust_cfa_offset -8\n\t.cfi_restore %%rbx\n\t"
        "popq %%rbp\n\t.cfi_adjust_cfa_offset -8\n\t.cfi_restore %%rbp\n\t"
        "ret\n\t"
        :: [rip] "i"(offsetof(struct ckpt_task, resume_rip)), [rsp] "i"(offsetof(struct ckpt_task, resume_rsp)));
}

__attribute__((naked, noreturn)) void ckpt_unpark_trapped(uint64_t rsp) {
    __asm__ volatile(
        "movq %rdi, %rsp\n\t"
        "movl $2, %eax\n\t"
        "addq $8, %rsp\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\t"
        "ret");
}

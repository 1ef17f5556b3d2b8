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

// A transfer that a checkpoint has cut short goes on here: rbx has its struct ckpt_continued, the other registers the rest of it.  Nothing is on the stack, of which
// there may be little; rcx and r11 are the kernel's in any system call.  An unwinder sees a frame like a signal's: the address is where the call returned to.
struct ckpt_continued ckpt_continued_[CKPT_CONTINUED_CALLS];
__asm__(".pushsection .text.ckpt_go_on,\"ax\",@progbits\n"
        ".globl ckpt_went_on\n.hidden ckpt_went_on\n.type ckpt_go_on,@function\n"
        "\t.cfi_startproc\n\t.cfi_signal_frame\n\t.cfi_def_cfa %rsp, 0\n"
        "\t.cfi_escape 0x10, 16, 2, 0x73, 8\n"           // DW_CFA_expression: rip at rbx + 8
        "\t.cfi_escape 0x10, 3, 2, 0x73, 32\n"           // rbx at rbx + 32
        "\tnop\nckpt_go_on:\n\tsyscall\n"
        "ckpt_went_on:\n"
        "\tmovq 16(%rbx), %rcx\n\tsubq %rcx, %rsi\n\taddq %rcx, %rdx\n"
        "\tleaq 113(%rax), %r11\n\tcmpq $13, %r11\n\tjbe 2f\n"      // an error of the connection (ENETDOWN to EHOSTUNREACH) is told once: now, or nobody hears of it
        "\ttestq %rax, %rax\n\tjle 1f\n\taddq %rax, %rcx\n"
        "1:\tmovq %rcx, %rax\n"
        "2:\tmovq 40(%rbx), %r10\n\tmovq 48(%rbx), %r8\n\tmovq 56(%rbx), %r9\n"
        "\tmovq 8(%rbx), %rcx\n\tmovq %rbx, %r11\n\tmovq 32(%rbx), %rbx\n"
        "\t.cfi_register %rip, %rcx\n\t.cfi_restore %rbx\n"
        "\tmovl $0, (%r11)\n\tjmp *%rcx\n"
        "\t.cfi_endproc\n.size ckpt_go_on, .-ckpt_go_on\n.popsection\n");
extern const char ckpt_went_on[] __attribute__((visibility("hidden")));
uint64_t ckpt_went_on_address(void) { return (uint64_t)ckpt_went_on; }

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

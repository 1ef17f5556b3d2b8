// clone3(2) with a new stack, for all who clone: a child that shares memory must not return through its parent's frames.
#include "ckpt_syscall.h"
#include "ckpt_kernel.h"

// The child starts with the stack pointer that the kernel took from `arguments`; registers are the parent's.
__attribute__((naked)) long ckpt_clone3(struct ckpt_clone_args *arguments, void (*entry)(uint64_t), uint64_t argument) {
    __asm__ volatile(
        "movq %rsi, %r9\n\t"            // entry
        "movq %rdx, %r8\n\t"            // argument
        "movl $88, %esi\n\t"
        "movl $435, %eax\n\t"
        "syscall\n\t"
        "testq %rax, %rax\n\t"
        "jz 1f\n\t"
        "ret\n"
        "1:\txorl %ebp, %ebp\n\t"
        "movq %r8, %rdi\n\t"
        "andq $-16, %rsp\n\t"
        "callq *%r9\n\t"
        "ud2");
}

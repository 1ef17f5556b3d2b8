// Runs inside applications, wherever they call libc, on the caller's stack: no libc, no lock, no allocation.
// What Swift cannot say: variadic functions, memory of a computed size on the stack, our own dynamic section.
#include "interpose.h"
#include "preload_boot.h"
#include <stdarg.h>

#define EXPORT __attribute__((visibility("default")))
typedef char *const *strings;

struct interpose_state interpose_state_;

// One block of names without pointers, so that no page of it has to be relocated.
static const struct {
#define X(name) char name[sizeof #name];
    INTERPOSE_ENTRIES(X)
#undef X
} names = {
#define X(name) #name,
    INTERPOSE_ENTRIES(X)
#undef X
};
static const uint16_t offsets[INTERPOSE_ENTRY_COUNT] = {
#define X(name) (uint16_t)__builtin_offsetof(__typeof__(names), name),
    INTERPOSE_ENTRIES(X)
#undef X
};
const char *interpose_entry_name(int entry) { return (const char *)&names + offsets[entry]; }

extern const char _DYNAMIC[] __attribute__((visibility("hidden")));
uint64_t interpose_own_dynamic(void) { return (uint64_t)_DYNAMIC; }
long interpose_call_resolver(uint64_t address) { return ((long (*)(void))address)(); }

// Where handlers of the application return to, instead of libc's restorer: one for those with SA_RESTART, one for those without.  Both set
// right what SIGCKPT cannot see or undo, in the context that rt_sigreturn(2) is about to restore (rsp is at the ucontext; the unwind table
// says where it keeps the registers).  rcx, which every system call destroys, carries the marks:
// - equal to rip, and −EINTR in rax: a call that was interrupted by this handler.  SIGCKPT may come during rt_sigreturn and would take it for
//   one that a checkpoint interrupted: the mark is taken off.
// - INTERPOSE_INTERRUPTED: the runtime has set the call back to its beginning, and this handler ran before it was entered: it returns EINTR.
// - INTERPOSE_RESTARTED: the kernel has, because SIGCKPT's handler has SA_RESTART: it returns EINTR if this one has not.
// What of a transfer goes on behind SIGCKPT's handler (ckpt_go_on) ends here, also where the kernel restarts it for this handler: it has transferred something.
#define REGISTER(number, offset) ".cfi_escape 0x10," #number ",3,0x77,(" #offset "&0x7f)|0x80," #offset ">>7\n"
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define RESTORER(name, also) \
    __asm__(".pushsection .text." name ",\"ax\",@progbits\n" \
        ".cfi_startproc simple\n.cfi_signal_frame\n" \
        ".cfi_escape 0x0f,4,0x77,(160&0x7f)|0x80,160>>7,0x06\n" \
        REGISTER(0, 144) REGISTER(1, 136) REGISTER(2, 152) REGISTER(3, 128) REGISTER(4, 112) REGISTER(5, 104) REGISTER(6, 120) REGISTER(7, 160) \
        REGISTER(8, 40) REGISTER(9, 48) REGISTER(10, 56) REGISTER(11, 64) REGISTER(12, 72) REGISTER(13, 80) REGISTER(14, 88) REGISTER(15, 96) \
        REGISTER(16, 168) \
        "\tnop\n"                               /* unwinders look at the byte before a return address */ \
        ".globl " name "\n.hidden " name "\n.type " name ",@function\n" \
        name ":\n" \
        "\tmovq 152(%rsp), %rax\n" \
        "\tmovabsq $" STRING(INTERPOSE_INTERRUPTED) ", %rdx\n\tcmpq %rdx, %rax\n\tje 2f\n" \
        also \
        "\tcmpq %rax, 168(%rsp)\n\tjne 1f\n" \
        "\tcmpq $-4, 144(%rsp)\n\tjne 1f\n" \
        "\tmovq $0, 152(%rsp)\n" \
        "1:\tleaq ckpt_went_on-2(%rip), %rdx\n\tcmpq %rdx, 168(%rsp)\n\tje 3f\n" \
        "4:\tmovq $15, %rax\n\tsyscall\n\tud2\n" \
        "2:\taddq $2, 168(%rsp)\n\tmovq $-4, 144(%rsp)\n\tmovq $0, 152(%rsp)\n\tjmp 4b\n" \
        "3:\taddq $2, 168(%rsp)\n\tmovq $0, 144(%rsp)\n\tmovq $0, 152(%rsp)\n\tjmp 4b\n" \
        ".cfi_endproc\n.size " name ", .-" name "\n.popsection\n")
RESTORER("interpose_restorer_restarting", "");
RESTORER("interpose_restorer_interrupting", "\tmovabsq $" STRING(INTERPOSE_RESTARTED) ", %rdx\n\tcmpq %rdx, %rax\n\tje 2f\n");
extern const char interpose_restorer_restarting[] __attribute__((visibility("hidden")));
extern const char interpose_restorer_interrupting[] __attribute__((visibility("hidden")));
uint64_t interpose_restorer_address(_Bool restarting) { return (uint64_t)(restarting ? interpose_restorer_restarting : interpose_restorer_interrupting); }

extern long interpose_start_image(void *request, void *memory);
// A vfork child shares our heap and our mappings with its parent, so the stack is the place; an environment of thousands of entries
// would not fit on a small one.
long interpose_with_memory(size_t size, void *request) {
    if (size <= 16384) {
        uint64_t memory[(size + 7) / 8 + 1];
        return interpose_start_image(request, memory);
    }
    long at = ckpt_mmap(0, size, 3, 0x22, -1, 0);
    if (at < 0 && at > -4096) return at;
    long result = interpose_start_image(request, (void *)at);
    ckpt_munmap((uint64_t)at, size);
    return result;
}

// syscall(3) goes to the wrappers that note what nothing shows later (interpose_{rings,ipc,notes}.c), or is left by a jump, so that it does for its caller
// what it always did.
extern uint64_t interpose_real(int entry);
extern int interpose_fail(int code);
enum { NR_io_submit = 209, NR_io_uring_setup = 425, NR_io_uring_enter = 426, NR_io_uring_register = 427, NR_prctl = 157, SET_DISPATCH = 59 };
#define ASIDE(call) "\tpushq %%rdi\n\tpushq %%rsi\n\tpushq %%rdx\n\tpushq %%rcx\n\tpushq %%r8\n\tpushq %%r9\n\tsubq $8, %%rsp\n" call \
    "\taddq $8, %%rsp\n\tpopq %%r9\n\tpopq %%r8\n\tpopq %%rcx\n\tpopq %%rdx\n\tpopq %%rsi\n\tpopq %%rdi\n"
#define FORWARD(function) "\tmovq %%rsi, %%rdi\n\tmovq %%rdx, %%rsi\n\tmovq %%rcx, %%rdx\n\tmovq %%r8, %%rcx\n\tmovq %%r9, %%r8\n\tmovq 8(%%rsp), %%r9\n\tjmp " function "\n"
extern int interpose_execve(const char *path, strings argv, strings envp);
extern int execveat(int directory, const char *path, strings argv, strings envp, int flags);
// As libc's: who is between two images without having blocked SIGCKPT would be ended by it.
long interpose_execve_number(const char *path, strings argv, strings envp) { return interpose_execve(path, argv, envp); }
long interpose_execveat_number(int directory, const char *path, strings argv, strings envp, int flags) { return execveat(directory, path, argv, envp, flags); }
EXPORT __attribute__((naked)) long syscall(long number, ...) {
    __asm__("cmpq %[make], %%rdi\n\tje 5f\n\tcmpq %[submit], %%rdi\n\tje 6f\n\tcmpq %[ring], %%rdi\n\tje 7f\n\tcmpq %[entering], %%rdi\n\tje 9f\n\tcmpq %[registration], %%rdi\n\tje 8f\n"
            "\tcmpq %[restriction], %%rdi\n\tje 11f\n\tcmpq %[control], %%rdi\n\tje 10f\n"
            "\tcmpq %[shmget], %%rdi\n\tje 20f\n\tcmpq %[shmat], %%rdi\n\tje 21f\n\tcmpq %[shmctl], %%rdi\n\tje 22f\n\tcmpq %[semget], %%rdi\n\tje 23f\n\tcmpq %[semctl], %%rdi\n\tje 24f\n\tcmpq %[msgget], %%rdi\n\tje 25f\n\tcmpq %[msgctl], %%rdi\n\tje 26f\n\tcmpq %[unshare], %%rdi\n\tje 27f\n\tcmpq %[setns], %%rdi\n\tje 28f\n\tcmpq %[execve], %%rdi\n\tje 29f\n\tcmpq %[execveat], %%rdi\n\tje 30f\n"
            "1:\tmovq interpose_state_+%c[entry](%%rip), %%rax\n\ttestq %%rax, %%rax\n\tjz 2f\n\tjmpq *%%rax\n"
            "2:\n" ASIDE("\tmovl %[index], %%edi\n\tcallq interpose_real\n") "\ttestq %%rax, %%rax\n\tjz 3f\n\tjmpq *%%rax\n"
            "3:\tsubq $8, %%rsp\n\tmovl $38, %%edi\n\tcallq interpose_fail\n\tcltq\n\taddq $8, %%rsp\n\tretq\n"       // ENOSYS
            "20:\n" FORWARD("interpose_shmget") "21:\n" FORWARD("interpose_shmat") "22:\n" FORWARD("interpose_shmctl") "23:\n" FORWARD("interpose_semget") "24:\n" FORWARD("interpose_semctl")
            "25:\n" FORWARD("interpose_msgget") "26:\n" FORWARD("interpose_msgctl") "27:\n" FORWARD("interpose_unshare") "28:\n" FORWARD("interpose_setns")
            "29:\n" FORWARD("interpose_execve_number") "30:\n" FORWARD("interpose_execveat_number")
            "5:\n" FORWARD("interpose_context_setup") "6:\n" FORWARD("interpose_context_submit") "7:\n" FORWARD("interpose_ring_setup") "8:\n" FORWARD("interpose_ring_register") "9:\n" FORWARD("interpose_ring_enter")
            "10:\tcmpl %[dispatch], %%esi\n\tjne 1b\n" FORWARD("interpose_dispatch") "11:\n" FORWARD("interpose_confine")
            :: [execve] "i"(CKPT_SYS_execve), [execveat] "i"(CKPT_SYS_execveat), [restriction] "i"(CKPT_SYS_landlock_restrict_self), [control] "i"(NR_prctl), [dispatch] "i"(SET_DISPATCH), [shmget] "i"(CKPT_SYS_shmget), [shmat] "i"(CKPT_SYS_shmat), [shmctl] "i"(CKPT_SYS_shmctl), [semget] "i"(CKPT_SYS_semget), [semctl] "i"(CKPT_SYS_semctl),
               [msgget] "i"(CKPT_SYS_msgget), [msgctl] "i"(CKPT_SYS_msgctl), [unshare] "i"(CKPT_SYS_unshare), [setns] "i"(CKPT_SYS_setns), [make] "i"(CKPT_SYS_io_setup), [submit] "i"(NR_io_submit), [ring] "i"(NR_io_uring_setup), [registration] "i"(NR_io_uring_register), [entering] "i"(NR_io_uring_enter),
               [entry] "i"(__builtin_offsetof(struct interpose_state, entries) + 8 * INTERPOSE_syscall), [index] "i"(INTERPOSE_syscall));
}

// The same for one of the calls that prctl(2) is.
EXPORT __attribute__((naked)) int prctl(int option, ...) {
    __asm__("cmpl %[dispatch], %%edi\n\tje interpose_dispatch\n"
            "1:\tmovq interpose_state_+%c[entry](%%rip), %%rax\n\ttestq %%rax, %%rax\n\tjz 2f\n\tjmpq *%%rax\n"
            "2:\n" ASIDE("\tmovl %[index], %%edi\n\tcallq interpose_real\n") "\ttestq %%rax, %%rax\n\tjz 3f\n\tjmpq *%%rax\n"
            "3:\tsubq $8, %%rsp\n\tmovl $38, %%edi\n\tcallq interpose_fail\n\taddq $8, %%rsp\n\tretq\n"       // ENOSYS
            :: [dispatch] "i"(SET_DISPATCH), [entry] "i"(__builtin_offsetof(struct interpose_state, entries) + 8 * INTERPOSE_prctl), [index] "i"(INTERPOSE_prctl));
}

extern int interpose_execv(const char *path, strings argv);
extern int interpose_execvp(const char *file, strings argv);

// The arguments up to the null pointer, as an array on the stack.
#define COLLECT(first) \
    size_t count = 1; va_list list; \
    va_start(list, first); while (va_arg(list, char *)) count++; va_end(list); \
    char *argv[count + 1]; argv[0] = (char *)(first); \
    va_start(list, first); for (size_t i = 1; i <= count; i++) argv[i] = va_arg(list, char *);
EXPORT int execl(const char *path, const char *first, ...) {
    if (!first) { char *none[1] = { 0 }; return interpose_execv(path, none); }
    COLLECT(first) va_end(list);
    return interpose_execv(path, argv);
}
EXPORT int execlp(const char *file, const char *first, ...) {
    if (!first) { char *none[1] = { 0 }; return interpose_execvp(file, none); }
    COLLECT(first) va_end(list);
    return interpose_execvp(file, argv);
}
EXPORT int execle(const char *path, const char *first, ...) {
    if (!first) {
        char *none[1] = { 0 };
        va_list list; va_start(list, first); strings envp = va_arg(list, strings); va_end(list);
        return interpose_execve(path, none, envp);
    }
    COLLECT(first)
    strings envp = va_arg(list, strings);
    va_end(list);
    return interpose_execve(path, argv, envp);
}

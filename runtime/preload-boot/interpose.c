// Runs inside applications, wherever they call libc, on the caller's stack: no libc, no lock, no allocation.
// What Swift cannot say: variadic functions, memory of a computed size on the stack, our own dynamic section.
#include "interpose.h"
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

extern int interpose_execve(const char *path, strings argv, strings envp);
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

// Runs in the engine, on any of its threads.  No heap: the decoder's context lies in the caller's workspace.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <lz4.h>
#include "ckpt_decompress.h"
#include "ckpt_syscall.h"
#include "ckpt_statefile.h"

// Debian compiles with a stack protector: every function of the archives reads its guard at %fs:0x28.  So the engine has a thread block, which
// threads and processes inherit until a task gets its own.
uint64_t ckpt_thread_block[8] __attribute__((aligned(64)));
void ckpt_decompress_begin(void) {
    const long set_fs = 0x1002;
    ckpt_thread_block[0x28 / 8] = 0x0a5a3c96e1d2b400;       // begins with a zero byte: no text runs over it
    ckpt_syscall(CKPT_SYS_arch_prctl, set_fs, (long)ckpt_thread_block, 0, 0, 0, 0);
}
void __wrap___stack_chk_fail(void) { __builtin_trap(); }

size_t ckpt_decompress_workspace(void) { return ZSTD_estimateDCtxSize(); }

int ckpt_decompress(uint32_t kind, void *workspace, void *to, size_t room, const void *from, size_t size) {
    if (kind == CKPT_COMPRESSION_LZ4) return LZ4_decompress_safe(from, to, (int)size, (int)room) == (int)room;
    if (kind != CKPT_COMPRESSION_ZSTD) return 0;
    ZSTD_DCtx *context = ZSTD_initStaticDCtx(workspace, ZSTD_estimateDCtxSize());
    return context && ZSTD_decompressDCtx(context, to, room, from, size) == room;
}

// What the archives mention and these calls never reach: a heap (--wrap in Package.swift), and formats from before zstd 0.8, which are errors here.
void *__wrap_malloc(size_t n) { return (void *)0; }
void *__wrap_calloc(size_t n, size_t m) { return (void *)0; }
void __wrap_free(void *p) {}
#define ERROR ((size_t)-1)
#define OLD_FORMAT(v) \
    void *ZSTD##v##_createDCtx(void) { return (void *)0; } \
    void *ZBUFF##v##_createDCtx(void) { return (void *)0; } \
    size_t ZSTD##v##_freeDCtx(void) { return ERROR; } \
    size_t ZBUFF##v##_freeDCtx(void) { return ERROR; } \
    size_t ZSTD##v##_decompress_usingDict(void) { return ERROR; } \
    size_t ZSTD##v##_getFrameParams(void) { return ERROR; } \
    size_t ZBUFF##v##_decompressInitDictionary(void) { return ERROR; } \
    size_t ZBUFF##v##_decompressContinue(void) { return ERROR; } \
    void ZSTD##v##_findFrameSizeInfoLegacy(const void *p, size_t n, size_t *size, unsigned long long *bound) { *size = ERROR; *bound = 0; }
OLD_FORMAT(v05) OLD_FORMAT(v06) OLD_FORMAT(v07)
// Weak in the archive: nobody traces.
unsigned long long ZSTD_trace_decompress_begin(const void *context) { return 0; }
void ZSTD_trace_decompress_end(unsigned long long trace, const void *what) {}

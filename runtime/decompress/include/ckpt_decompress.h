// Decompression of one run's pages without libc or heap: the decoders of Debian's libzstd.a and liblz4.a (ARCHITECTURE.md, "Compressed memory").
#ifndef CKPT_DECOMPRESS_H
#define CKPT_DECOMPRESS_H
#include <stddef.h>
#include <stdint.h>

// Once per image, before the first call of the others.
void ckpt_decompress_begin(void);
// Bytes of working memory, for each thread that decompresses; aligned to 16.
size_t ckpt_decompress_workspace(void);
// One frame of `kind` (enum ckpt_compression) that becomes exactly `room` bytes at `to`; 0: it is none.
int ckpt_decompress(uint32_t kind, void *_Nonnull workspace, void *_Nonnull to, size_t room, const void *_Nonnull from, size_t size);
#endif

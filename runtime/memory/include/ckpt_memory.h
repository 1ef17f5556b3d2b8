#ifndef CKPT_MEMORY_H
#define CKPT_MEMORY_H
#include <stddef.h>
void *_Nonnull memcpy(void *_Nonnull d, const void *_Nonnull s, size_t n);
void *_Nonnull memmove(void *_Nonnull d, const void *_Nonnull s, size_t n);
#endif

#ifndef ENGINE_BOOT_H
#define ENGINE_BOOT_H
#include "ckpt_syscall.h"
#include "ckpt_kernel.h"
#include "engine_state.h"
// Where the running image starts and ends (its ELF header, its last .bss byte), page-aligned outwards.
uint64_t boot_image_start(void);
uint64_t boot_image_end(void);
// Applies the relative relocations of the image copy that starts at `base` (an exact copy of this image's memory before it ran).
void boot_relocate_at(uint64_t base);
#endif

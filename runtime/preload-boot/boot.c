#include "preload_boot.h"
__attribute__((visibility("default"))) const unsigned ckpt_runtime_version = CKPT_ABI_VERSION;

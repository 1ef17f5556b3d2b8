#ifndef PRELOAD_BOOT_H
#define PRELOAD_BOOT_H
#include "ckpt_syscall.h"
#include "ckpt_kernel.h"
#include "ckpt_session.h"
#endif

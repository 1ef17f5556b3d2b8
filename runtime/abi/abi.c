// Compiling the headers checks their assertions in both worlds.
#include "ckpt_syscall.h"
#include "ckpt_kernel.h"
#include "ckpt_session.h"
#include "ckpt_statefile.h"
#include "ckpt_warm.h"

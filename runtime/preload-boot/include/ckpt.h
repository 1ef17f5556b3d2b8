// For programs that want a part in their own checkpoints.  None needs to: this only extends what the runtime does by itself.
//
//     #include <ckpt.h>                        // nothing to link: libckpt.so is there when ckrun started the program
//     if (ckpt_set_hook) ckpt_set_hook(my_hook, my_data);
//
// The hook runs inside the SIGCKPT handler of one task of the process, every signal blocked, on a stack of 64 KiB: only what
// signal-safety(7) lists may be called, and errno must be left as it was.  A forked child inherits the hook, an exec drops it.
#ifndef CKPT_H
#define CKPT_H

enum ckpt_hook_event {
    CKPT_BEFORE = 1,        // a checkpoint is called; other tasks may still be running.  Anything but 0 aborts it, and the user is told the number
    CKPT_CONTINUED = 2,     // it is over (or its memory is a copy now), the program goes on
    CKPT_RESTARTED = 3,     // the program goes on from the statefile: perhaps later, perhaps on another machine
    CKPT_ABORTED = 4,       // it came to nothing, the program goes on
};
typedef int (*ckpt_hook)(enum ckpt_hook_event event, void *argument);

// Sets the hook (0: none) and returns 1 in a session, 0 where there is none.
extern int ckpt_set_hook(ckpt_hook hook, void *argument) __attribute__((weak));
#endif

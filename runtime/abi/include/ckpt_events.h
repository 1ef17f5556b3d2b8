// A statefile's records of event descriptors: one per eventfd, timerfd, signalfd, whose state /proc/PID/fdinfo shows.
#ifndef CKPT_EVENTS_H
#define CKPT_EVENTS_H
#include <stdint.h>
#include "ckpt_kernel.h"

enum ckpt_event_flags { CKPT_EVENT_SEMAPHORE = 1 };     // eventfd: EFD_SEMAPHORE
struct ckpt_event_record {
    uint32_t object;                // OBJECT that it belongs to
    uint32_t flags;                 // enum ckpt_event_flags
    uint64_t value;                 // eventfd: the count; timerfd: expirations not yet read; signalfd: the set
    int32_t  clock;                 // timerfd
    uint32_t set_flags;             // timerfd: flags of timerfd_settime(2)
    struct ckpt_itimerspec left;    // timerfd: it_value 0: disarmed
};
_Static_assert(sizeof(struct ckpt_event_record) == 56, "event_record");

#endif

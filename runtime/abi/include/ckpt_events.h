// A statefile's records of event descriptors: one per eventfd, timerfd, signalfd, epoll instance, inotify queue and pidfd, as /proc/PID/fdinfo shows them.
#ifndef CKPT_EVENTS_H
#define CKPT_EVENTS_H
#include <stdint.h>
#include "ckpt_kernel.h"

enum ckpt_event_flags {
    CKPT_EVENT_SEMAPHORE = 1,       // eventfd: EFD_SEMAPHORE
    CKPT_EVENT_REAPED = 2,          // pidfd: its process has ended and been waited for
    CKPT_EVENT_OVERFLOW = 4,        // inotify: IN_Q_OVERFLOW stands for what was unread
    CKPT_EVENT_UNREAD = 8,          // inotify: what was unread is stored
};
struct ckpt_event_record {
    uint32_t object;                // OBJECT that it belongs to
    uint32_t flags;                 // enum ckpt_event_flags
    uint64_t value;                 // eventfd: the count; timerfd: expirations not yet read; signalfd: the set; pidfd: the pid, or the wait status; inotify: offset of unread events
    int32_t  clock;                 // timerfd; inotify with unread events: number of the next watch
    uint32_t set_flags;             // timerfd: flags of timerfd_settime(2); inotify: bytes of unread events
    struct ckpt_itimerspec left;    // timerfd: it_value 0: disarmed, or expired
    uint32_t first_item, item_count;// epoll: WATCHED; inotify: WATCH
};
_Static_assert(sizeof(struct ckpt_event_record) == 64, "event_record");

// One file that an epoll instance watches.
struct ckpt_watched_record {
    uint32_t target;                // DESCRIPTION
    int32_t  number;                // under which it was added; it may stand for another file by now
    uint32_t events;                // as they were set; a one-shot that has fired has only the bits above EPOLLWAKEUP
    uint32_t process;               // PROCESS that has to add it (a signalfd shows the signals of whoever added it); CKPT_NO_INDEX: anybody
    uint64_t data;
};
_Static_assert(sizeof(struct ckpt_watched_record) == 24, "watched_record");

// One watch of an inotify queue.
struct ckpt_watch_record {
    int32_t  wd;
    uint32_t mask;
    uint32_t path;                  // BYTES
    uint32_t mounts;                // 1 + the mount namespace of a part in which that is looked up; 0: where the tree was started
};
_Static_assert(sizeof(struct ckpt_watch_record) == 16, "watch_record");

#endif

// What a template (`ckptctl warm FILE`) and those that ask it say to each other: one record per message of a SOCK_SEQPACKET socket, which lies
// beside the session segments under the name of the statefile's id.  The template serves nobody but its own user (SO_PEERCRED).
#ifndef CKPT_WARM_H
#define CKPT_WARM_H
#include <stdint.h>

enum {
    CKPT_WARM_MAGIC = 0x57504b43,
    CKPT_WARM_BRANCH = 1, CKPT_WARM_LIST = 2, CKPT_WARM_DROP = 3,                               // requests
    CKPT_WARM_STARTED = 1, CKPT_WARM_REFUSED = 2, CKPT_WARM_ENDED = 3, CKPT_WARM_STATUS = 4,    // replies
};
#define CKPT_WARM_PREFIX "warm-"         // and 32 hexadecimal digits

// With BRANCH come the standard streams that are open (SCM_RIGHTS), in their order.
struct ckpt_warm_request {
    uint32_t magic, kind;
    uint8_t  id[16];                    // the statefile's
    uint32_t files, ignore_cpu, ignore_clock, timing, tcp, ipc;
    uint32_t relocations;               // checksum of all --relocate
    uint32_t streams;                   // a bit per standard stream that comes along
    uint32_t namespaces[8];             // those of the asking process (enum ckpt_namespace_kind − 1)
    uint64_t capabilities;              // its effective ones
    char     program[64];               // how its messages begin
};

// With STARTED comes a pidfd of the branch's engine: signals go there.
struct ckpt_warm_reply {
    uint32_t magic, kind;
    int32_t  pid, keeper;               // of the template: who answers, and who holds the memory
    int32_t  wait;                      // ENDED: the branch's end, as wait(2) shows it
    int32_t  code;                      // REFUSED: exit status, with its reason in `text`
    uint32_t served, living;            // branches
    uint64_t memory, since;             // bytes that are held; when it was complete (CLOCK_REALTIME, ns)
    char     text[1024];
    char     file[4096];                // the statefile's path
};
_Static_assert(sizeof(struct ckpt_warm_request) == 160 && sizeof(struct ckpt_warm_reply) == 5168, "warm");
#endif

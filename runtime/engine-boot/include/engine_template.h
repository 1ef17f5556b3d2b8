// What a template's processes keep for themselves: engine_state is a branch's, and the keeper's is overwritten by that of each branch it serves.
#ifndef ENGINE_TEMPLATE_H
#define ENGINE_TEMPLATE_H
#include "ckpt_warm.h"

enum {
    ENGINE_BRANCHES = 1024,             // at a time
    ENGINE_SHARING_STACK = 128 << 10,   // of each process that shares the keeper's memory
    ENGINE_SHARING_STACKS = 3,          // midwife, bearer, intermediate
    ENGINE_MIDWIFE_STACK = 0, ENGINE_BEARER = 1, ENGINE_INTERMEDIATE = 2,
    ENGINE_PASSED = 200,                // descriptors per message, fewer than SCM_MAX_FD
};
struct engine_branch { int32_t connection, pid; };

// From a branch to its midwife.
enum { ENGINE_MIDWIFE_CLOCKS = 1, ENGINE_MIDWIFE_STATE = 2, ENGINE_MIDWIFE_DESCRIPTORS = 3, ENGINE_MIDWIFE_BIRTH = 4, ENGINE_MIDWIFE_DONE = 5 };
struct engine_order {
    uint32_t kind, count;               // descriptors that come along
    int32_t  node, leads;
    uint32_t users;                     // CLOCKS: the branch has made a user namespace
    uint32_t namespaces[8];             // STATE: where the builder is
    int32_t  numbers[ENGINE_PASSED];    // DESCRIPTORS: where they belong
};
struct engine_answer { int32_t result; };
struct engine_master_run { uint64_t from, to, size; };

struct engine_template {
    // the template's server
    int32_t  listener, signals, ready;  // ready: whoever ran `ckptctl warm` waits for a word on this pipe
    int32_t  keeper_pid, streams[3];    // streams: that came with a request
    uint32_t served, living, draining, relocations;
    uint64_t held, since, capabilities;
    uint8_t  id[16];
    uint32_t namespaces[8];
    char     socket[256];
    char     file[4096];
    struct engine_branch branches[ENGINE_BRANCHES];
    struct ckpt_warm_request request;
    struct ckpt_warm_reply reply;
    // the keeper and those that share its memory
    int32_t  requests, channel;         // from the server; to the branch that is served
    int32_t  numbers;                   // where descriptors of a branch wait, that much above their place; and the highest
    int32_t  highest;
    struct engine_order order;          // the next descriptors that a branch hands over
    uint32_t leads, prepared, pruned;   // the bearer is the leader itself; descriptors and mappings are in place; not all images are inherited
    uint32_t owns, bears;               // in a process of a branch: its memory is its own; it has borne, and all images that it still has are not inherited
    uint64_t range, range_size;         // stacks, masters of shared memory with the list of their runs, images that don't lie in place
    uint64_t masters, master_runs, master_count, images;
};

struct engine_template *_Nonnull engine_template(void);
CKPT_INLINE struct engine_branch *_Nonnull engine_template_branch(uint32_t i) { return &engine_template()->branches[i]; }
CKPT_INLINE int32_t *_Nonnull engine_template_streams(void) { return engine_template()->streams; }
CKPT_INLINE char *_Nonnull engine_template_socket(void) { return engine_template()->socket; }
CKPT_INLINE char *_Nonnull engine_template_file(void) { return engine_template()->file; }
CKPT_INLINE uint8_t *_Nonnull engine_template_id(void) { return engine_template()->id; }
CKPT_INLINE uint32_t *_Nonnull engine_template_namespaces(void) { return engine_template()->namespaces; }
CKPT_INLINE struct ckpt_warm_request *_Nonnull engine_request(void) { return &engine_template()->request; }
CKPT_INLINE struct ckpt_warm_reply *_Nonnull engine_reply(void) { return &engine_template()->reply; }
CKPT_INLINE char *_Nonnull engine_reply_text(void) { return engine_template()->reply.text; }
CKPT_INLINE char *_Nonnull engine_reply_file(void) { return engine_template()->reply.file; }
CKPT_INLINE uint8_t *_Nonnull engine_request_id(void) { return engine_template()->request.id; }
CKPT_INLINE char *_Nonnull engine_request_program(void) { return engine_template()->request.program; }
CKPT_INLINE uint32_t *_Nonnull engine_request_namespaces(void) { return engine_template()->request.namespaces; }
CKPT_INLINE struct engine_order *_Nonnull engine_next_order(void) { return &engine_template()->order; }
CKPT_INLINE int32_t *_Nonnull engine_order_numbers(struct engine_order *_Nonnull o) { return o->numbers; }
CKPT_INLINE uint32_t *_Nonnull engine_order_namespaces(struct engine_order *_Nonnull o) { return o->namespaces; }
CKPT_INLINE uint8_t *_Nonnull engine_superblock_id(struct ckpt_superblock *_Nonnull s) { return s->id; }
CKPT_INLINE uint64_t engine_state_size(void) { return sizeof(struct engine_state); }
#endif

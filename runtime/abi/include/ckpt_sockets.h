// A statefile's records of sockets: the sockets themselves, their options, what is in their queues.
// Addresses are the kernel's sockaddr, as getsockname(2) returns them, in the BYTES table.
#ifndef CKPT_SOCKETS_H
#define CKPT_SOCKETS_H
#include <stdint.h>

enum ckpt_socket_state {
    CKPT_SOCKET_OPEN = 0,           // neither listening nor connected; bound if `local` is not empty
    CKPT_SOCKET_LISTENING = 1,
    CKPT_SOCKET_CONNECTED = 2,      // to `peer`, or to `remote` outside of the tree
    CKPT_SOCKET_PENDING = 3,        // the server's end of a connection that nobody has accepted yet: no descriptor, `listener` holds it
};
enum ckpt_socket_flags {
    CKPT_SOCKET_SHUT_READ = 1, CKPT_SOCKET_SHUT_WRITE = 2,
    CKPT_SOCKET_PEER_GONE = 4,      // connected, and the other end is closed
    CKPT_SOCKET_RESET = 8,          // and its end left unread data behind (ECONNRESET is still to be told)
};
struct ckpt_socket_record {
    uint32_t object;                // OBJECT that it belongs to; CKPT_NO_INDEX: PENDING
    uint32_t family, type, protocol;
    uint32_t state;                 // enum ckpt_socket_state
    uint32_t flags;                 // enum ckpt_socket_flags
    uint32_t peer;                  // SOCKET: the other end, or CKPT_NO_INDEX
    uint32_t listener;              // SOCKET: the one that accepted or will accept it, or CKPT_NO_INDEX
    uint32_t local, local_size, remote, remote_size;    // BYTES; size 0: none
    uint32_t backlog;
    int32_t  creator_pid; uint32_t creator_uid, creator_gid;    // what SO_PEERCRED of its peer shows; pid 0: unknown
    uint32_t first_option, option_count;                // OPTION
    uint32_t first_message, message_count;              // MESSAGE: its receive queue, oldest first
    uint64_t spare[6];
};
_Static_assert(sizeof(struct ckpt_socket_record) == 128, "socket_record");

struct ckpt_option_record {
    int32_t  level, name;           // setsockopt(2)
    uint32_t value, size;           // BYTES
};
_Static_assert(sizeof(struct ckpt_option_record) == 16, "option_record");

enum ckpt_message_flags { CKPT_MESSAGE_CREDENTIALS = 1 };
struct ckpt_message_record {
    uint64_t content, content_size; // in the file; a stream's may stand for many writes
    uint32_t source, source_size;   // BYTES: the sender's address; size 0: it has none
    uint32_t flags;                 // enum ckpt_message_flags
    int32_t  pid; uint32_t uid, gid;                    // SCM_CREDENTIALS
    uint32_t first_carried, carried_count;              // CARRIED: SCM_RIGHTS
    uint32_t sender, pad;           // SOCKET that it came from, or CKPT_NO_INDEX
};
_Static_assert(sizeof(struct ckpt_message_record) == 56, "message_record");

#endif

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
    CKPT_SOCKET_CONNECTING = 4,     // TCP: connect(2) is under way
    CKPT_SOCKET_ENDED = 5,          // TCP: was connected; what is unread can still be read
};
enum ckpt_socket_flags {
    CKPT_SOCKET_SHUT_READ = 1, CKPT_SOCKET_SHUT_WRITE = 2,
    CKPT_SOCKET_PEER_GONE = 4,      // connected, and the other end is closed
    CKPT_SOCKET_RESET = 8,          // and its end left unread data behind (ECONNRESET is still to be told)
    CKPT_SOCKET_OUTSIDE = 16,       // a standard stream that leads outside: it is the restart's own
    CKPT_SOCKET_SERVER = 32,        // TCP: its end of the connection is the one that was accepted
    CKPT_SOCKET_REFUSED = 64,       // TCP: ECONNREFUSED is still to be told
    CKPT_SOCKET_PEER_FINISHED = 128,// TCP: the other end, outside of the tree, has sent all that it will (FIN)
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
    int32_t  creator_pid; uint32_t creator_uid, creator_gid;    // what SO_PEERCRED of it shows, where it is made; pid 0: unknown
    uint32_t first_option, option_count;                // OPTION
    uint32_t first_message, message_count;              // MESSAGE: its receive queue, oldest first
    uint32_t description;           // DESCRIPTION that leads to it, or CKPT_NO_INDEX: PENDING
    uint8_t  network, peer_network; // 1 + NAMESPACE: of a part of the tree; 0: the tree's.  That of a peer that is gone
    uint8_t  creator_pids, mounts;  // 1 + NAMESPACE: the pid namespace in which it is made, since SO_PEERCRED shows a pid of there; the mount namespace of a part in which it has its path name; 0: the tree's
    uint32_t queued_memory;         // what its unread messages cost its senders (SIOCOUTQ of its peer); 0: unknown
    uint32_t path_mode, path_uid, path_gid;             // of the file of a path name
    uint32_t path_folder;           // BYTES: where a relative path name lies
    uint32_t path_state;            // enum ckpt_socket_path
    uint32_t path_file;             // BYTES: where its file is, if that was moved after it was bound; 0
    uint32_t hidden;                // the engine's: 1 + a descriptor of the folder in which that file waits to be moved, or 0
    uint64_t ghost;                 // the engine's: 1 + a descriptor that stands for a peer that is gone, or 0
    uint32_t repair, repair_size;   // BYTES: struct ckpt_tcp_repair; size 0: none.  Its last message is then the send queue
};
enum ckpt_socket_path { CKPT_SOCKET_NO_PATH = 0, CKPT_SOCKET_PATH = 1, CKPT_SOCKET_PATH_GONE = 2 };    // GONE: bound to a name that does not lead to it any more
_Static_assert(sizeof(struct ckpt_socket_record) == 136, "socket_record");

// What TCP_REPAIR tells of a connection to the outside of the tree (tcp(7), include/uapi/linux/tcp.h).
struct ckpt_tcp_repair {
    uint32_t send_sequence, receive_sequence;           // at the ends of the queues
    uint32_t segment;               // the largest that the peer takes
    uint32_t options;               // TCPI_OPT_*
    uint32_t send_scale, receive_scale;
    uint32_t timestamp;
    uint32_t window[5];             // struct tcp_repair_window
    uint32_t unsent;                // how much of the send queue has never been sent
    uint32_t pad;
};
_Static_assert(sizeof(struct ckpt_tcp_repair) == 56, "tcp_repair");

// When an option is set again.
enum ckpt_option_stage {
    CKPT_OPTION_CREATED = 0,        // before it gets its name
    CKPT_OPTION_CONNECTED = 1,      // when it has its name and its peer
    CKPT_OPTION_FILLED = 2,         // when its queue is full: it would change what arrives
};
struct ckpt_option_record {
    int32_t  level, name;           // setsockopt(2)
    uint32_t value, size;           // BYTES
    uint32_t stage;                 // enum ckpt_option_stage
    uint32_t text;                  // BYTES: its name, for messages
};
_Static_assert(sizeof(struct ckpt_option_record) == 24, "option_record");

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

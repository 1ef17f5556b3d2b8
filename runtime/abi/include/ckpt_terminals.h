// Pseudo-terminals (pty(7)): what a parked leader takes and puts back, and a statefile's records of them.
// Unread data of a terminal cannot be looked at: it is read and written again, at a checkpoint by the leader of a process that has the master,
// at a restart by the engine into a new terminal.  Both use the same code (runtime/freestanding/Terminal*.swift) on the same struct.
#ifndef CKPT_TERMINALS_H
#define CKPT_TERMINALS_H
#include <stdint.h>

// struct termios2, TCGETS2
struct ckpt_termios { uint32_t input, output, control, local; uint8_t line, characters[19]; uint32_t input_speed, output_speed; };
_Static_assert(sizeof(struct ckpt_termios) == 44, "termios2");
// struct winsize, TIOCGWINSZ
struct ckpt_winsize { uint16_t rows, columns, width, height; };

enum ckpt_terminal_flags {
    CKPT_TERMINAL_OUTSIDE = 1,          // the tree's own, whose master is not in the tree: connected to the restart's
    CKPT_TERMINAL_LOCKED = 2,           // TIOCSPTLCK
    CKPT_TERMINAL_PACKET = 4,           // TIOCPKT
    CKPT_TERMINAL_EXCLUSIVE = 8,        // TIOCEXCL on the slave
    CKPT_TERMINAL_EXCLUSIVE_MASTER = 16,
    CKPT_TERMINAL_STOPPED = 32,         // output stopped by the STOP character
    CKPT_TERMINAL_SUSPENDED = 64,       // output stopped by TCOOFF
    CKPT_TERMINAL_CLOSED = 128,         // the slave has been opened and nobody has it any more: the master reads EIO
    CKPT_TERMINAL_UNOPENED = 256,       // the slave has never been opened
    CKPT_TERMINAL_LITERAL = 512,        // LNEXT was typed: the next character is taken as it is
    CKPT_TERMINAL_SLAVE_KNOWN = 1024,   // a process of the tree has the slave open
    CKPT_TERMINAL_FOREGROUND = 2048,    // OUTSIDE: a process group of the tree was in the foreground
};

// Everything of a terminal but the bytes that are in it.
struct ckpt_terminal_state {
    struct ckpt_termios termios;
    struct ckpt_winsize size;
    uint32_t flags;                     // enum ckpt_terminal_flags
    uint32_t control;                   // packet mode: the control byte that has not been read
    uint32_t output_size;               // from the slave, not yet read by the master
    uint32_t input_size;                // as it is to be typed again: see ckpt_terminal_literal()
    uint32_t late_size;                 // typed, and not yet looked at by the line discipline, whose buffer is full
    int32_t  index;                     // of /dev/pts
    uint32_t pad;
    uint32_t mode, uid, gid;            // of the slave's node
    uint64_t device;                    // st_dev of the slave's node: which instance of devpts; 0: unknown
};
_Static_assert(sizeof(struct ckpt_terminal_state) == 104, "terminal_state");

enum ckpt_terminal_step { CKPT_TERMINAL_ASKED = 0, CKPT_TERMINAL_TAKEN = 1, CKPT_TERMINAL_PUT_BACK = 2 };
enum ckpt_terminal_failure {            // why one cannot be checkpointed; worded by the initiator
    CKPT_TERMINAL_FINE = 0,
    CKPT_TERMINAL_NO_PEER = 1,          // the slave cannot be opened
    CKPT_TERMINAL_DISCIPLINE = 2,       // a line discipline other than N_TTY
    CKPT_TERMINAL_KEPT_LOCKS = 3,       // TIOCSLCKTRMIOS
    CKPT_TERMINAL_OUTPUT_UNREACHED = 4, // unread output of a slave that no process of the tree has open
    CKPT_TERMINAL_FULL = 5,             // more unread data than there is room: somebody outside writes
    CKPT_TERMINAL_STUCK = 6,            // it did not take back what was in it
    CKPT_TERMINAL_ECHOES = 7,           // more echoes may wait behind its output than it would take back
};
// More than the kernel holds: 41 KB each way, of which 4 KB have been looked at, and an echo of 4 KB that may be twice as long.
enum { CKPT_TERMINAL_OUTPUT_ROOM = 65536, CKPT_TERMINAL_INPUT_ROOM = 12288, CKPT_TERMINAL_LATE_ROOM = 49152, CKPT_TERMINAL_SCRATCH = 8192, CKPT_TERMINAL_QUEUE = 4095 };
_Static_assert(CKPT_TERMINAL_OUTPUT_ROOM + CKPT_TERMINAL_INPUT_ROOM + CKPT_TERMINAL_LATE_ROOM <= 131072, "the engine's two buffers");

// In the arena: the initiator fills the descriptors and SLAVE_KNOWN, the leader the rest.
struct ckpt_terminal_query {
    int32_t  master, slave;             // descriptors of this process; slave −1
    uint32_t step;                      // enum ckpt_terminal_step
    uint32_t failure;                   // enum ckpt_terminal_failure
    int32_t  error;                     // errno of it
    int32_t  group;                     // the foreground group, while this process takes its place; 0: it does not
    uint32_t master_flags, slave_flags; // fcntl(2) F_GETFL, while they are others
    struct ckpt_terminal_state state;
    uint8_t  output[CKPT_TERMINAL_OUTPUT_ROOM], input[CKPT_TERMINAL_INPUT_ROOM], late[CKPT_TERMINAL_LATE_ROOM], scratch[CKPT_TERMINAL_SCRATCH];
};

struct ckpt_terminal_record {
    struct ckpt_terminal_state state;
    uint64_t output, input, late;       // in the file
    int32_t  foreground;                // process group, 0: none or not of the tree
    uint32_t path;                      // BYTES: as the tree knows the slave
    uint64_t spare[4];
};
_Static_assert(sizeof(struct ckpt_terminal_record) == 168, "terminal_record");

static inline __attribute__((always_inline)) uint8_t *_Nonnull ckpt_termios_character(struct ckpt_termios *_Nonnull t, int i) { return &t->characters[i]; }
static inline __attribute__((always_inline)) uint8_t *_Nonnull ckpt_query_output(struct ckpt_terminal_query *_Nonnull q) { return q->output; }
static inline __attribute__((always_inline)) uint8_t *_Nonnull ckpt_query_input(struct ckpt_terminal_query *_Nonnull q) { return q->input; }
static inline __attribute__((always_inline)) uint8_t *_Nonnull ckpt_query_late(struct ckpt_terminal_query *_Nonnull q) { return q->late; }
static inline __attribute__((always_inline)) uint8_t *_Nonnull ckpt_query_scratch(struct ckpt_terminal_query *_Nonnull q) { return q->scratch; }
#endif

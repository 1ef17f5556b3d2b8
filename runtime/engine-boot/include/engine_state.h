// What the engine keeps between its functions: Swift globals of aggregate type would be initialised lazily, so they live here.
// The state is private to each process (a forked child inherits a copy); the board is MAP_SHARED between all processes of one restart.
#ifndef ENGINE_STATE_H
#define ENGINE_STATE_H
#include "ckpt_syscall.h"
#include "ckpt_kernel.h"
#include "ckpt_session.h"
#include "ckpt_statefile.h"

enum {
    ENGINE_TABLES = 48,                 // tables are numbered from 1 (enum ckpt_table)
    ENGINE_RELOCATIONS = 64,
    ENGINE_RELOCATION_TEXT = 32768,
    ENGINE_MAIN_STACK = 128 << 10,      // the restoring task's own
    ENGINE_TASK_STACK = 16 << 10,       // each further task's
    ENGINE_VDSO_PIECES = 6,
    ENGINE_FOLDER_TEXT = 4096,
    ENGINE_FILLERS = 16,                // tasks that fill a process's memory, at most
};
enum engine_pids { ENGINE_PIDS_AUTO = 0, ENGINE_PIDS_KEEP = 1, ENGINE_PIDS_NS = 2, ENGINE_PIDS_NEW = 3 };
enum engine_groups { ENGINE_GROUPS_EQUAL = 0, ENGINE_GROUPS_OF_OTHERS = 1, ENGINE_GROUPS_OF_ALL = 2 };        // who has others than the engine: nobody, not the first task, that too
enum engine_files { ENGINE_FILES_CHECK = 0, ENGINE_FILES_KEEP = 1, ENGINE_FILES_TRUNCATE = 2 };
enum engine_tcp { ENGINE_TCP_AUTO = 0, ENGINE_TCP_REPAIR = 1, ENGINE_TCP_RESET = 2, ENGINE_TCP_REFUSE = 3 };     // connections out of the tree

enum engine_ipc { ENGINE_IPC_OWN = 0, ENGINE_IPC_ATTACH = 1 };       // System V and POSIX IPC that is used outside the tree as well

// The stages of building the tree; every process waits on the board for the next.
enum engine_stage {
    ENGINE_STAGE_BIRTH = 0,             // processes are created, sessions and groups get their leaders
    ENGINE_STAGE_GROUPS = 1,            // the others join their groups
    ENGINE_STAGE_LEAVE = 2,             // temporary leaders and zombies exit
    ENGINE_STAGE_RESTORE = 3,           // everybody restores itself
    ENGINE_STAGE_RELEASED = 4,
    ENGINE_STAGE_ABORT = 5,
    ENGINE_STAGES = 6,
};

// One address space of the tree while it is loaded lazily.
struct engine_space {
    int32_t  fd; uint32_t record, live, pad;    // its userfaultfd; PROCESS
    uint64_t extents, extent_count;             // struct engine_extent[], by address: what is still to come
    uint64_t runs, run_count;                   // struct ckpt_run[], by address
    uint64_t done;                              // a word per run: it is there, or being put there
    uint64_t bits, bit_words, was_there;        // of each run, in which word of was_there its bits begin; how many there are; a bit per page: it has come
    uint64_t next, finished;                    // atomic: runs that a loader has taken, and has put there
};
struct engine_extent { uint64_t start, end, source; };     // source: the address at the checkpoint

struct engine_piece { uint64_t start, size; };
struct engine_seen { uint64_t inode, seconds, nanoseconds; };           // a file that a template has compared

struct engine_state {
    // options
    uint32_t pids, files, ignore_cpu, ignore_clock, ignore_label, timing;
    uint32_t relocations;
    uint32_t relocation_old[ENGINE_RELOCATIONS], relocation_new[ENGINE_RELOCATIONS];    // offsets in relocation_text
    uint32_t relocation_used;
    char     relocation_text[ENGINE_RELOCATION_TEXT];
    char     program[64];               // the statefile's name, for messages
    char     session_directory[256];
    char     segment_path[256];
    char     path[8192];                // a path being relocated or built

    // the running image and its copy
    uint64_t image_base, image_size;
    uint64_t region_base, region_size;  // what the runtime unmaps at the end
    uint64_t stacks, stack_count;       // the main stack, then the tasks' stacks
    uint64_t chunk, copy;               // buffers of 64 KiB each
    uint64_t frames;                    // frameRoom bytes in which frames are decompressed, then room for a run's pages
    uint64_t table[ENGINE_TABLES], table_count[ENGINE_TABLES];
    uint64_t scratch, scratch_used, scratch_size;
    uint64_t staging_size;
    uint64_t segment;                   // our own mapping of the session segment
    uint64_t segment_device, segment_inode;

    // tables of numbers in the scratch area
    uint64_t description_fd;            // int32_t per description: the descriptor that holds it, −1
    uint64_t object_fd;                 // int32_t per object: a file made for the whole tree, −1
    uint64_t anchors;                   // int32_t per object: a descriptor for its path in the mounts of a part, −1
    uint64_t leads;                     // uint32_t per object: whether others may lead its path elsewhere (OwnersOfFiles.swift)
    uint64_t object_staging;            // uint64_t per object: address of staged shared memory
    uint64_t nodes; uint64_t node_count;

    // descriptors, all above `fd_floor`
    int32_t  fd_floor, statefile, segment_fd, standard[3];
    int32_t  exec_face, streamed;       // streamed: the statefile came through a pipe and lies in memory that only we hold
    uint64_t file_size;                 // the statefile's
    int32_t  base_fd[CKPT_MAX_BASES];   // those that a delta refers to
    uint64_t base_size[CKPT_MAX_BASES];
    int32_t  mapped_fd; uint32_t mapped_object, mapped_write;   // the file that was mapped last
    int32_t  init_node;                 // ns: the node that is process 1 of the namespace; −1: the engine's own init is

    uint32_t outer_namespaces[8];       // that the restart was started in
    uint32_t own_users, groups_differ, outer_uid;  // 1 + NAMESPACE: the engine is in that of the whole tree; enum engine_groups
    uint32_t entered_users, entered_task;       // 1 + NAMESPACE: this process is in that of a part; whose groups it has taken there
    uint32_t holds_numbers;             // this process, or who waits for it, has the board's number_lock
    int32_t  namespace_fd[CKPT_MAX_NAMESPACES];         // the tree's own, where only a part of it lives in one
    uint32_t objects_place;             // 1 + NAMESPACE: the mounts of a part whose files are being opened; 0
    uint32_t root_is_new, has_copied_all;       // of the mounts of a part that are being attached
    uint32_t entered_mounts;            // this process is in those of its part
    int32_t  children_fd;               // the pid namespace of this process's children, which it can't find any more where it lives; 0
    int32_t  proc_folder;               // the builder's /proc, also where mounts of a part have none (yet); 0
    uint32_t tree_users;                // what is known of them (Credentials.swift); 0: nothing yet
    uint32_t roots_restart, rights_awaited;     // root restarts; how many tasks all wait for before one goes into the tree's memory
    uint32_t is_root_of_user;           // uid 0 of a user namespace that the restart was started in
    uint32_t visited_mounts; int32_t home_mounts, home_root, home_folder;       // 1 + NAMESPACE: those that it is in for a moment; the way back
    int32_t  tree_times;                // the time namespace that the tree was started in, if a part of it lives in another

    // vdso
    struct engine_piece vdso[ENGINE_VDSO_PIECES];
    uint32_t vdso_pieces, vdso_matches;
    uint64_t vdso_text, vdso_text_size, vdso_home, vdso_home_size;

    // how
    uint32_t mode;                      // enum engine_pids: KEEP, NS or NEW
    uint32_t user_namespace, foreign_groups, foreground, has_terminal, time_namespace;
    int32_t  engine_pid, engine_group;
    int32_t  init_pid, main_group, report_writer;
    uint32_t terminal_opened;           // the description of /dev/tty that is being opened
    int32_t  released_terminal;         // the restart's terminal, given up for a session of the tree; -1
    uint32_t was_foreground, terminal_adopted;
    int32_t  report;                    // ns: the init process tells the engine what became of the main process
    uint32_t is_builder;                // this process builds the tree (the engine, or the init of its namespace)
    uint32_t is_engine;
    int32_t  node;                      // which node of the plan this process is; −1
    uint32_t process;
    uint32_t segment_made; uint64_t session_folder_device, session_folder_inode;
    uint64_t robust_list[4];            // struct robust_list_head and its one entry
    uint64_t clock_start, clock_last;
    int64_t  own_monotonic, own_boottime;   // offsets of the time namespace that the engine was started in
    uint32_t clock_offsets_known, tcp;
    // what a short-lived child does so that the kernel takes down its pid (Creators.swift)
    uint32_t creator_call; int32_t creator_fd[2]; int64_t creator_result;
    uint64_t creator_address, creator_length; uint32_t creator_uid, creator_gid, creator_network;
    uint64_t hidden_word;               // random: names of folders in which files of sockets wait
    int64_t  creator_number, creator_arguments[5];
    uint32_t ipc, ipc_namespace;        // enum engine_ipc; whether the tree gets an IPC namespace of its own
    uint32_t ipc_place;                 // 1 + NAMESPACE: that of a part, whose IPC is being made (SystemV.swift)
    // filling memory (Fill.swift)
    uint64_t fill;                      // rooms of the fillers
    uint32_t fillers, huge_pages;       // cores that the engine may use; whether the kernel gives huge pages
    uint64_t fill_from; uint32_t fill_process, fill_next;   // the chain being read; the next group that nobody has taken
    int32_t  fill_memory; uint32_t fill_moves;          // userfaultfd, -1; whether it moves pages
    uint32_t fill_running[ENGINE_FILLERS];
    // --lazy (Lazy.swift, Server.swift)
    uint32_t lazy, is_server; int32_t lazy_server, lazy_socket, lazy_server_socket, lazy_self;
    int32_t  working_set; uint32_t lazy_lock, space_count;
    uint64_t spaces, lazy_rooms, lazy_polls, statefile_id;
    uint64_t touched, touched_count, wanted, wanted_count, wanted_next;
    // a template of this statefile in memory (Template.swift)
    uint32_t wants_warm, wants_template;    // --warm, --template
    uint32_t warm;                      // this restart branches off a template
    int32_t  board_fd, keeper, channel; // the board's file; the way to the template's keeper, and to the midwife that this branch has there
    uint64_t uses;                      // uint32_t per object: how many mappings of it this process has
    uint64_t images, seen, arrays_size; // uint64_t per VMA: where the keeper holds it, 0: nowhere; struct engine_seen per object
    // folders that are made for a moment: their paths, each with its NUL
    uint32_t folders_used; char folders[ENGINE_FOLDER_TEXT];
    uint32_t names_held;                // this process has folders that are not to stay (engine_board)
};

// Shared by every process of one restart.  After it: int32_t pids[nodes], uint32_t leader_gone[processes], int32_t tids[tasks].
struct engine_board {
    uint32_t stage;            // futex word
    uint32_t arrived[ENGINE_STAGES];
    uint32_t progress;
    uint32_t ready;                     // futex word: the builder says that the tree is complete
    uint32_t failure;                   // 0, 1: being written, 2: written
    int32_t  exit_code;
    uint32_t terminal_wanted;           // ns: the init process gives the terminal to the main process's group
    uint32_t pid_taken;                 // the failure is a pid in use: another mode may succeed
    uint32_t names_held;                // how many processes have folders beside files of sockets, which they remove before they are killed
    uint32_t left_rights;               // futex word: tasks that have no more rights than they had in the tree
    uint32_t group_warned;              // a control group that could not be entered was told
    uint32_t text_length;
    int32_t  init_pid;                  // ns: the first process, as the engine sees it
    int32_t  builder;                   // the builder's pid, as the processes of the tree see it
    uint32_t lazy_done;                 // all memory is loaded
    int32_t  lazy_keeper;               // the keeper's pidfd, in the server's descriptors
    // pids given by others (Numberers.swift); by pid namespace, 1 + NAMESPACE
    uint32_t number_lock, number_alive, number_verdict;     // futex words; number_alive is cleared when the task has ended
    int32_t  number_tid, number_pid, number_result;         // what is wanted, and the thread group it is to be in
    uint32_t asked[CKPT_MAX_NAMESPACES + 1];                // futex words
    int32_t  numberer[CKPT_MAX_NAMESPACES + 1];             // pids, as the builder sees them
    char     text[1024];
};

struct engine_state *_Nonnull engine_state(void);

// Goes on with `entry(argument)` in the image copy at `to`, on a new stack.
_Noreturn void boot_continue_at(void (*_Nonnull entry)(uint64_t), uint64_t from, uint64_t to, uint64_t stack_top, uint64_t argument);
// Leaves the engine: into the runtime's signal handler, in restored memory.
_Noreturn void boot_resume(uint64_t rsp, uint64_t rip);

CKPT_INLINE char *_Nonnull engine_program(void) { return engine_state()->program; }
CKPT_INLINE char *_Nonnull engine_path(void) { return engine_state()->path; }
CKPT_INLINE char *_Nonnull engine_segment_path(void) { return engine_state()->segment_path; }
CKPT_INLINE char *_Nonnull engine_session_directory(void) { return engine_state()->session_directory; }
CKPT_INLINE char *_Nonnull engine_folders(void) { return engine_state()->folders; }
CKPT_INLINE char *_Nonnull engine_relocation_text(uint32_t at) { return engine_state()->relocation_text + at; }
CKPT_INLINE uint32_t *_Nonnull engine_relocation_old(uint32_t i) { return &engine_state()->relocation_old[i]; }
CKPT_INLINE uint32_t *_Nonnull engine_relocation_new(uint32_t i) { return &engine_state()->relocation_new[i]; }
CKPT_INLINE uint64_t *_Nonnull engine_table(uint32_t i) { return &engine_state()->table[i]; }
CKPT_INLINE uint64_t *_Nonnull engine_table_count(uint32_t i) { return &engine_state()->table_count[i]; }
CKPT_INLINE int32_t *_Nonnull engine_base_fd(uint32_t i) { return &engine_state()->base_fd[i]; }
CKPT_INLINE uint64_t *_Nonnull engine_base_size(uint32_t i) { return &engine_state()->base_size[i]; }
CKPT_INLINE int32_t *_Nonnull engine_standard(uint32_t i) { return &engine_state()->standard[i]; }
CKPT_INLINE int64_t *_Nonnull engine_creator_arguments(void) { return engine_state()->creator_arguments; }
CKPT_INLINE uint32_t *_Nonnull engine_outer_namespaces(void) { return engine_state()->outer_namespaces; }
CKPT_INLINE int32_t *_Nonnull engine_namespace_fd(uint32_t i) { return &engine_state()->namespace_fd[i]; }
CKPT_INLINE int32_t *_Nonnull engine_creator_fd(void) { return engine_state()->creator_fd; }
CKPT_INLINE uint32_t *_Nonnull engine_fill_running(uint32_t i) { return &engine_state()->fill_running[i]; }
CKPT_INLINE uint32_t *_Nonnull engine_space_lock(void) { return &engine_state()->lazy_lock; }
CKPT_INLINE uint64_t *_Nonnull engine_robust_list(void) { return engine_state()->robust_list; }
CKPT_INLINE struct engine_piece *_Nonnull engine_vdso_piece(uint32_t i) { return &engine_state()->vdso[i]; }
CKPT_INLINE uint32_t *_Nonnull engine_board_arrived(struct engine_board *_Nonnull b, uint32_t stage) { return &b->arrived[stage]; }
CKPT_INLINE uint32_t *_Nonnull engine_board_asked(struct engine_board *_Nonnull b, uint32_t place) { return &b->asked[place]; }
CKPT_INLINE int32_t *_Nonnull engine_board_numberer(struct engine_board *_Nonnull b, uint32_t place) { return &b->numberer[place]; }
CKPT_INLINE uint32_t *_Nonnull engine_board_left_rights(struct engine_board *_Nonnull b) { return &b->left_rights; }
CKPT_INLINE uint32_t *_Nonnull engine_board_number_lock(struct engine_board *_Nonnull b) { return &b->number_lock; }
CKPT_INLINE uint32_t *_Nonnull engine_board_number_alive(struct engine_board *_Nonnull b) { return &b->number_alive; }
CKPT_INLINE uint32_t *_Nonnull engine_board_number_verdict(struct engine_board *_Nonnull b) { return &b->number_verdict; }
CKPT_INLINE char *_Nonnull engine_board_text(struct engine_board *_Nonnull b) { return b->text; }
CKPT_INLINE uint32_t *_Nonnull engine_uid(struct ckpt_process_record *_Nonnull p, int i) { return &p->uid[i]; }
CKPT_INLINE uint32_t *_Nonnull engine_gid(struct ckpt_process_record *_Nonnull p, int i) { return &p->gid[i]; }
CKPT_INLINE uint32_t *_Nonnull engine_user(struct ckpt_credentials_record *_Nonnull c, int i) { return &c->uid[i]; }
CKPT_INLINE uint32_t *_Nonnull engine_group_of(struct ckpt_credentials_record *_Nonnull c, int i) { return &c->gid[i]; }
CKPT_INLINE char *_Nonnull engine_tree_session_id(struct ckpt_tree *_Nonnull t) { return t->session_id; }
#include "engine_template.h"
#endif

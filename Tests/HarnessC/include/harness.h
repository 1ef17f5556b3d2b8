// The few GNU functions that the test harness needs and that Swift's Glibc module does not show.
#ifndef HARNESS_H
#define HARNESS_H
#include <spawn.h>
void harness_become_subreaper(void);
int harness_pipe(int *ends);                // close-on-exec
int harness_add_chdir(posix_spawn_file_actions_t *actions, const char *folder);
int harness_add_closefrom(posix_spawn_file_actions_t *actions, int first);
int harness_open_terminal(int rows, int columns);   // the master of a new pseudo-terminal, close-on-exec
const char *harness_terminal_name(int master);      // of its slave
#endif

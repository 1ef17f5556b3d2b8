#define _GNU_SOURCE
#include "harness.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>
void harness_become_subreaper(void) { prctl(PR_SET_CHILD_SUBREAPER, 1); }
int harness_pipe(int *ends) { return pipe2(ends, O_CLOEXEC); }
int harness_add_chdir(posix_spawn_file_actions_t *actions, const char *folder) { return posix_spawn_file_actions_addchdir_np(actions, folder); }
int harness_add_closefrom(posix_spawn_file_actions_t *actions, int first) { return posix_spawn_file_actions_addclosefrom_np(actions, first); }
int harness_open_terminal(int rows, int columns) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct winsize size = { rows, columns, 0, 0 };
    if (master < 0 || grantpt(master) || unlockpt(master) || ioctl(master, TIOCSWINSZ, &size)) return -1;
    return master;
}
const char *harness_terminal_name(int master) { return ptsname(master); }

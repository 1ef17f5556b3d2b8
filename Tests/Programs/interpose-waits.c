// A snapshot must be nobody's child.  This program puts a child into the session's segment as if it were a snapshot, and waits in every way; it is
// found by none, and a child of its own is found by each.
#define _GNU_SOURCE
#define _Nonnull
#define _Nullable
#include "../../runtime/abi/include/ckpt_syscall.h"
#include "../../runtime/abi/include/ckpt_session.h"     // before <signal.h>, whose macros bear the names of its fields
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ckpt_session *session;
static int failures;
static pid_t snapshot(void) {
    pid_t p = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);      // as a sub-reaper sees it: an adopted child sends SIGCHLD
    if (!p) syscall(SYS_exit_group, 0);
    ckpt_process_slot(session, 0)->snapshot_pid = p;
    return p;
}
static void expect(const char *name, long found, long wanted) {
    if (found != wanted) { printf("%s: %ld instead of %ld (%d)\n", name, found, wanted, errno); failures++; }
}
static pid_t own(int code) { pid_t p = fork(); if (!p) { usleep(30000); _exit(code); } return p; }
int main(void) {
    int fd = open(getenv("CKPT_SESSION"), O_RDWR);
    session = mmap(0, ckpt_session_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (session == MAP_FAILED) return 2;
    session->process_claims = 1; session->has_subreaper = 1;
    int status; siginfo_t info; struct rusage usage;
    for (int round = 0; round < 5; round++) {
        pid_t p, s;
        s = snapshot(); p = own(1); expect("wait", wait(&status), p);
        snapshot(); p = own(2); expect("waitpid", waitpid(-1, &status, 0), p);
        snapshot(); p = own(3); expect("wait3", wait3(&status, 0, &usage), p);
        snapshot(); p = own(4); expect("wait4", wait4(-1, &status, __WALL, &usage), p);
        snapshot(); p = own(5); expect("waitid", waitid(P_ALL, 0, &info, WEXITED), 0); expect("waitid's pid", info.si_pid, p);
        snapshot(); p = own(6); expect("waitid WNOWAIT", waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0); expect("WNOWAIT's pid", info.si_pid, p);
        expect("waitpid after", waitpid(p, &status, 0), p); expect("status", WEXITSTATUS(status), 6);
        s = snapshot(); syscall(SYS_waitid, P_PID, s, &info, WEXITED | WNOWAIT, 0); p = own(7);       // it has ended
        expect("WNOHANG", waitpid(-1, &status, WNOHANG), 0); expect("waitpid own", waitpid(p, &status, 0), p);
        (void)s;
    }
    ckpt_process_slot(session, 0)->snapshot_pid = 0; session->has_subreaper = 0; session->process_claims = 0;
    expect("none left", waitpid(-1, &status, 0), -1); expect("errno", errno, ECHILD);
    printf("%d failures\n", failures);
    return failures != 0;
}

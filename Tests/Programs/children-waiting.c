// Tasks that sleep in wait4 and waitid for every kind of target and event, by libc and by system call: each gets what it waited for, once.
#include "scenario.h"
enum { ANY_OF_GROUP, ONE, STOP, GOES_ON, PEEK, RAW, NO_SIGNAL, KINDS };
static pid_t pids[KINDS];
static volatile int answers[KINDS], waiting;
static int gate[2];                     // the children sleep on it, in no file of the scenario: each wakes by a byte of its own
static void *wait_one(void *x) {
    long k = (long)x;
    siginfo_t info;
    int status = 0;
    struct rusage usage;
    memset(&info, 0, sizeof info);
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    switch (k) {
    case ANY_OF_GROUP: same(pids[k], waitpid(-pids[k], &status, 0)); same(50 + k, WEXITSTATUS(status)); break;
    case ONE: same(pids[k], wait4(pids[k], &status, 0, &usage)); same(50 + k, WEXITSTATUS(status)); break;
    case STOP: must(waitid(P_PID, pids[k], &info, WSTOPPED)); same(pids[k], info.si_pid); same(CLD_STOPPED, info.si_code); same(SIGTSTP, info.si_status); break;
    case GOES_ON: must(waitid(P_PGID, pids[k], &info, WCONTINUED)); same(pids[k], info.si_pid); same(CLD_CONTINUED, info.si_code); break;
    case PEEK:
        must(waitid(P_PID, pids[k], &info, WEXITED | WNOWAIT));
        same(CLD_EXITED, info.si_code); same(50 + k, info.si_status);
        scenario_child(pids[k], 50 + k);
        break;
    // SA_RESTART of the runtime's handler makes the kernel repeat it.
    case RAW: same(pids[k], syscall(SYS_wait4, pids[k], &status, 0, &usage)); same(50 + k, WEXITSTATUS(status)); break;
    case NO_SIGNAL: same(pids[k], waitpid(pids[k], &status, __WCLONE)); same(50 + k, WEXITSTATUS(status)); break;
    }
    answers[k] = 1;
    return NULL;
}
int main(void) {
    pipe(gate);
    for (int k = 0; k < KINDS; k++) {
        pids[k] = k == NO_SIGNAL ? must(syscall(SYS_clone, 0, 0, 0, 0, 0)) : must(fork());
        if (!pids[k]) {
            char byte;
            close(gate[1]);
            while (read(gate[0], &byte, 1) == 1) if (byte == k) _exit(50 + k);
            _exit(90);
        }
        setpgid(pids[k], pids[k]);
    }
    must(kill(pids[GOES_ON], SIGSTOP));
    must(waitpid(pids[GOES_ON], NULL, WUNTRACED));
    pthread_t threads[KINDS];
    for (long k = 0; k < KINDS; k++) pthread_create(&threads[k], NULL, wait_one, (void *)k);
    while (waiting < KINDS) usleep(1000);
    usleep(200000);
    scenario_wait();
    for (int k = 0; k < KINDS; k++) same(0, answers[k]);
    must(kill(pids[STOP], SIGTSTP));
    must(kill(pids[GOES_ON], SIGCONT));
    for (int t = 0; t < 1000 && !(answers[STOP] && answers[GOES_ON]); t++) usleep(5000);
    check(answers[STOP] && answers[GOES_ON]);
    check(waitpid(pids[NO_SIGNAL], NULL, WNOHANG) == -1 && errno == ECHILD);       // only by __WCLONE or __WALL
    // Each reads bytes until its own comes, so each byte is offered until somebody has it.
    must(kill(pids[STOP], SIGKILL)); must(kill(pids[GOES_ON], SIGKILL));
    int status;
    same(pids[STOP], waitpid(pids[STOP], &status, 0)); same(SIGKILL, WTERMSIG(status));
    same(pids[GOES_ON], waitpid(pids[GOES_ON], &status, 0)); same(SIGKILL, WTERMSIG(status));
    for (int t = 0, left = 1; t < 4000 && left; t++) {
        left = 0;
        for (int k = 0; k < KINDS; k++) if (k != STOP && k != GOES_ON && !answers[k]) { left = 1; char b = k; write(gate[1], &b, 1); }
        usleep(2000);
    }
    for (int k = 0; k < KINDS; k++) { same(1, answers[k]); if (answers[k]) pthread_join(threads[k], NULL); }
    check(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
    return scenario_end();
}

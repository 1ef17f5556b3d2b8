// Sub-reapers in the middle of the tree: orphans that they have adopted, of other sessions too, are theirs, and orphans to come go to the nearest one.
#include "scenario.h"
// A chain: each level forks the next and leaves when told; the last one reports who its parent became.
static void wait_for(const char *name) { scenario_await(name); }
static pid_t orphan(int session, const char *name, int status) {
    int fds[2];
    pipe(fds);
    pid_t middle = must(fork());
    if (!middle) {
        if (session) setsid();
        pid_t last = must(fork());
        if (!last) {
            close(fds[0]); close(fds[1]);
            pid_t sid = getsid(0);
            scenario_touch(name);
            scenario_await("collect");
            same(sid, getsid(0));
            scenario_leave(status);
        }
        write(fds[1], &last, sizeof last);
        _exit(3);
    }
    pid_t last = 0;
    close(fds[1]);
    read(fds[0], &last, sizeof last);
    close(fds[0]);
    scenario_child(middle, 3);
    wait_for(name);
    return last;
}
static void collect(pid_t pid, int status) {
    int raw = 0;
    same(pid, waitpid(pid, &raw, 0));
    check(WIFEXITED(raw) && WEXITSTATUS(raw) == status);
}
static int is_reaper(void) { int r = -1; prctl(PR_GET_CHILD_SUBREAPER, &r); return r; }
int main(void) {
    pid_t inner = must(fork());
    if (!inner) {
        // Set by a thread that is not the main one: it belongs to the process.
        pthread_t t;
        void *become(void *);
        pthread_create(&t, NULL, become, NULL);
        pthread_join(t, NULL);
        pid_t a = orphan(0, "a", 31), b = orphan(1, "b", 32);
        // A child whose children become orphans only afterwards.
        pid_t late = must(fork());
        if (!late) {
            if (!must(fork())) { scenario_touch("late"); scenario_await("collect"); scenario_leave(33); }
            scenario_await("go");
            scenario_leave(4);
        }
        wait_for("late");
        scenario_touch("inner");
        scenario_await("go");
        same(1, is_reaper());
        scenario_child(late, 4);
        scenario_touch("collect");
        collect(a, 31);
        collect(b, 32);
        int raw = 0;
        check(wait(&raw) > 0 && WEXITSTATUS(raw) == 33);
        pid_t c = orphan(1, "c", 34);
        collect(c, 34);
        check(wait(&raw) == -1 && errno == ECHILD);
        scenario_leave(5);
    }
    scenario_await("inner");
    scenario_wait();
    same(0, is_reaper());
    scenario_child(inner, 5);
    check(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
    return scenario_end();
}
void *become(void *x) { must(prctl(PR_SET_CHILD_SUBREAPER, 1)); return NULL; }

// What namespaces of a part of the tree can't come back with: "siblings", "owners", "unborn", "outside"; "unsupported" where one may not be made.
#include "systemv.h"
#include <mqueue.h>
#include <sched.h>

static void enter(int flags) { if (unshare(flags)) { printf("unsupported: %s\n", strerror(errno)); exit(0); } }
// The first process of a pid namespace of its own, which makes a segment.
static pid_t first(int flags) {
    pid_t outer = must(fork());
    if (outer) return outer;
    enter(flags | CLONE_NEWPID);
    pid_t inner = must(fork());
    if (!inner) {
        int segment = must(shmget(IPC_PRIVATE, 4096, 0600));
        scenario_await("go");
        must(shmctl(segment, IPC_RMID, NULL));
        _exit(0);
    }
    _exit(waitpid(inner, NULL, 0) != inner);
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    if (!strcmp(kind, "outsider")) {                // PID: a program outside the tree that has a queue of that one's open
        char path[64]; snprintf(path, sizeof path, "/proc/%s/ns/ipc", argv[2]);
        must(setns(must(open(path, O_RDONLY | O_CLOEXEC)), CLONE_NEWIPC));
        must(mq_open("/ckpt-part", O_RDWR));
        scenario_touch("joined");
        scenario_await("go");
        return 0;
    }
    pid_t part = must(fork());
    if (!part) {
        int isUnborn = !strcmp(kind, "unborn");
        enter(isUnborn ? CLONE_NEWUSER | CLONE_NEWTIME : CLONE_NEWIPC);
        pid_t children[2] = { 0, 0 };
        int queue = -1;
        if (!strcmp(kind, "outside")) queue = must(mq_open("/ckpt-part", O_RDWR | O_CREAT | O_EXCL, 0600, NULL));
        if (!strcmp(kind, "siblings")) for (int i = 0; i < 2; i++) children[i] = first(0);
        if (!strcmp(kind, "owners")) children[0] = first(CLONE_NEWUSER);
        usleep(100000);
        scenario_touch("ready");
        scenario_await("go");
        for (int i = 0; i < 2; i++) if (children[i]) must(waitpid(children[i], NULL, 0));
        if (queue >= 0) { must(mq_unlink("/ckpt-part")); close(queue); }
        _exit(0);
    }
    FILE *f = must(fopen(scenario_path("part"), "w")); fprintf(f, "%d", part); fclose(f);
    scenario_child(part, 0);
    return scenario_end();
}

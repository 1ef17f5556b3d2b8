// Inotify: watches on what lies far from all that the program has open, on several file systems; or on one file or folder that is named.
#include "scenario.h"
#include <sys/inotify.h>
static char folder[64];
static int file_in(const char *place, const char *name) { char p[200]; snprintf(p, sizeof p, "%s/%s", place, name); return must(open(p, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); }
// The watches as /proc shows them.
static size_t shown(int queue, char *text, size_t size) {
    char p[64]; snprintf(p, sizeof p, "/proc/self/fdinfo/%d", queue);
    int fd = must(open(p, O_RDONLY | O_CLOEXEC)); ssize_t n = must(read(fd, text, size - 1));
    close(fd); text[n] = 0;
    char *first = strstr(text, "inotify wd:"); check(first != NULL);
    memmove(text, first, strlen(first) + 1);
    return strlen(text);
}
static void comes(int queue, int wd, uint32_t mask) {
    static char buffer[4096] __attribute__((aligned(8)));
    int n = must(read(queue, buffer, sizeof buffer)), found = 0;
    for (struct inotify_event *e = (void *)buffer; (char *)e < buffer + n; e = (void *)((char *)(e + 1) + e->len)) found |= e->wd == wd && e->mask & mask;
    check(found);
}
int main(int argc, char **argv) {
    static char before[8192], after[8192];
    const char *far[] = { "/etc", "/etc/security", "/usr/share/perl5", "/usr/lib/os-release" };
    const char *below[] = { "still", "still/deep", "still/deep/down" };
    int queue = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), memory = 0, quiet = 0;
    char on_memory[64], made[64];
    if (argc > 1) must(inotify_add_watch(queue, argv[1], IN_CREATE));
    else {
        for (unsigned i = 0; i < sizeof far / sizeof far[0]; i++) must(inotify_add_watch(queue, far[i], IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF));
        snprintf(on_memory, sizeof on_memory, "/dev/shm/far-%d", getpid()); must(mkdir(on_memory, 0700));
        snprintf(folder, sizeof folder, "/var/tmp/far-%d", getpid()); must(mkdir(folder, 0700));
        // Whoever reads this one is told of.
        snprintf(made, sizeof made, "%s/loud", folder); must(mkdir(made, 0700));
        memory = must(inotify_add_watch(queue, on_memory, IN_CREATE));
        quiet = must(inotify_add_watch(queue, made, IN_ALL_EVENTS));
        // Beside it, and further down: looked for in what lies as deep as that.
        for (unsigned i = 0; i < sizeof below / sizeof below[0]; i++) { snprintf(made, sizeof made, "%s/%s", folder, below[i]); must(mkdir(made, 0700)); }
        must(inotify_add_watch(queue, made, IN_CREATE));
    }
    shown(queue, before, sizeof before);
    scenario_wait();
    shown(queue, after, sizeof after);
    check(!strcmp(before, after));
    char byte; same(-1, read(queue, &byte, 1)); same(EAGAIN, errno);
    if (argc == 1) {
        close(file_in(on_memory, "new")); comes(queue, memory, IN_CREATE);
        snprintf(made, sizeof made, "%s/loud", folder);
        close(file_in(made, "new")); comes(queue, quiet, IN_CREATE);
        char p[200];
        snprintf(p, sizeof p, "%s/new", on_memory); unlink(p); rmdir(on_memory);
        snprintf(p, sizeof p, "%s/new", made); unlink(p); rmdir(made);
        for (int i = sizeof below / sizeof below[0]; i--;) { snprintf(p, sizeof p, "%s/%s", folder, below[i]); rmdir(p); }
        rmdir(folder);
    }
    return scenario_end();
}

// /proc/self/maps afterwards is /proc/self/maps before, but for the vdso's own pages.
#include "scenario.h"
static char before[200000], after[200000];
static void take(char *out, int size) {
    int n = 0, fd = must(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
    for (int r; (r = read(fd, out + n, size - 1 - n)) > 0; n += r);
    out[n] = 0;
    close(fd);
}
// A line without its device and inode (of shared anonymous memory, they are new).
static void normal(const char *line, char *out) {
    char range[64] = "", protection[8] = "", offset[32] = "", device[16], inode[32], path[300] = "";
    sscanf(line, "%63s %7s %31s %15s %31s %299[^\n]", range, protection, offset, device, inode, path);
    if (strstr(path, "[vvar") || strstr(path, "[vdso")) { strcpy(out, ""); return; }
    if (strstr(path, "/ckpt-")) { strcpy(out, ""); return; }     // the session segment has a new name
    if (!strncmp(path, "/dev/zero", 9)) offset[0] = 0;
    snprintf(out, 512, "%s %s %s %s", range, protection, offset, path);
}
int main(void) {
    char *a = must(mmap(NULL, 40960, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    must(mprotect(a + 8192, 4096, PROT_READ));
    must(mprotect(a + 16384, 4096, PROT_NONE));
    memset(a + 20480, 1, 4096);
    must(mmap(NULL, 40960, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int fd = must(open("/proc/self/exe", O_RDONLY));
    must(mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 4096));
    close(fd);
    malloc(1 << 20);
    scenario_touch("warm-up");
    take(before, sizeof before);
    scenario_wait();
    take(after, sizeof after);
    char *p = before, *q = after, x[512], y[512];
    for (;;) {
        char *pe, *qe;
        do { x[0] = 0; pe = strchr(p, '\n'); if (!pe) break; *pe = 0; normal(p, x); p = pe + 1; } while (!x[0]);
        do { y[0] = 0; qe = strchr(q, '\n'); if (!qe) break; *qe = 0; normal(q, y); q = qe + 1; } while (!y[0]);
        if (!x[0] && !y[0]) break;
        if (strcmp(x, y)) { scenario_differs("was: %s\nnow: %s", x, y); if (!x[0] || !y[0]) break; }
    }
    return scenario_end();
}

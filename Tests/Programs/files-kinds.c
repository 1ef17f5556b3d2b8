// Descriptors that are hard to open again: O_PATH of every kind of file, O_TMPFILE that gets a name later, O_DIRECT, O_SYNC, O_NOATIME, removed folders.
#include "scenario.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/sysmacros.h>
static struct stat before[8];
int main(void) {
    char path[512], b[4096] __attribute__((aligned(4096)));
    must(symlink("nowhere", scenario_path("symlink")));
    must(mkfifo(scenario_path("fifo"), 0600));
    must(mkdir(scenario_path("inner"), 0700));
    int s = must(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", scenario_path("s"));
    must(bind(s, (void *)&address, sizeof address));
    close(s);
    int file = must(open(scenario_path("file"), O_RDWR | O_CREAT, 0600));
    const char *names[] = { scenario_path("symlink") };
    int paths[6];
    paths[0] = must(open(scenario_path("symlink"), O_PATH | O_NOFOLLOW));
    paths[1] = must(open(scenario_path("fifo"), O_PATH));
    paths[2] = must(open(scenario_path("s"), O_PATH));
    paths[3] = must(open("/dev/null", O_PATH));
    paths[4] = must(open(scenario_path("file"), O_PATH | O_CLOEXEC));
    paths[5] = must(open(scenario_path("inner"), O_PATH | O_DIRECTORY));
    for (int i = 0; i < 6; i++) must(fstat(paths[i], &before[i]));
    int flags[6]; for (int i = 0; i < 6; i++) flags[i] = must(fcntl(paths[i], F_GETFL));
    snprintf(path, sizeof path, "%s", scenario_path("."));
    int unnamed = must(open(path, O_TMPFILE | O_RDWR, 0640));
    must(pwrite(unnamed, "unnamed", 7, 8192));
    int direct = open(scenario_path("file"), O_RDWR | O_DIRECT), sync = must(open(scenario_path("file"), O_WRONLY | O_SYNC | O_APPEND)), quiet = must(open(scenario_path("file"), O_RDONLY | O_NOATIME));
    memset(b, 'x', sizeof b);
    must(pwrite(file, b, sizeof b, 0));
    int more[] = { direct, sync, quiet, unnamed }, kept[4];
    for (int i = 0; i < 4; i++) kept[i] = more[i] < 0 ? 0 : fcntl(more[i], F_GETFL);
    must(mkdir(scenario_path("gone"), 0750));
    int gone = must(open(scenario_path("gone"), O_RDONLY | O_DIRECTORY));
    must(mkdir(scenario_path("cwd"), 0711));
    must(chdir(scenario_path("cwd")));
    must(rmdir(scenario_path("gone")));
    must(rmdir(scenario_path("cwd")));
    int gone_flags = fcntl(gone, F_GETFL);
    scenario_wait();
    for (int i = 0; i < 6; i++) {
        struct stat now; must(fstat(paths[i], &now));
        same(before[i].st_ino, now.st_ino); same(before[i].st_mode, now.st_mode); same(before[i].st_dev, now.st_dev);
        same(flags[i], fcntl(paths[i], F_GETFL));
    }
    check(fcntl(paths[4], F_GETFD) == FD_CLOEXEC);
    check(read(paths[4], b, 1) < 0 && errno == EBADF);
    char target[64] = ""; must(readlinkat(paths[0], "", target, sizeof target)); check(!strcmp(target, "nowhere"));
    for (int i = 0; i < 4; i++) if (more[i] >= 0) same(kept[i], fcntl(more[i], F_GETFL));
    if (direct >= 0) { same(4096, pread(direct, b, 4096, 0)); same('x', b[4095]); }
    struct stat now; must(fstat(unnamed, &now)); same(0, now.st_nlink); same(8199, now.st_size); same(0100640, now.st_mode);
    must(pread(unnamed, b, 7, 8192)); check(!memcmp(b, "unnamed", 7)); same(8192, lseek(unnamed, 0, SEEK_DATA));
    snprintf(path, sizeof path, "/proc/self/fd/%d", unnamed);
    must(linkat(AT_FDCWD, path, AT_FDCWD, scenario_path("named"), AT_SYMLINK_FOLLOW));
    must(fstat(unnamed, &now)); same(1, now.st_nlink);
    must(fstat(gone, &now)); same(0, now.st_nlink); same(040750, now.st_mode); same(gone_flags, fcntl(gone, F_GETFL));
    check(openat(gone, "x", O_RDWR | O_CREAT, 0600) < 0 && errno == ENOENT);
    check(!getcwd(path, sizeof path) && errno == ENOENT);
    must(stat(".", &now)); same(0, now.st_nlink); same(040711, now.st_mode);
    return scenario_end();
}

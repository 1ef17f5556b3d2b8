// Names that are no UTF-8: of a folder, of open, mapped, removed and renamed files, of a socket and of tasks.
#include "scenario.h"
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
static void link_of(const char *name, char *text) { long n = readlink(name, text, 4095); text[n < 0 ? 0 : n] = 0; }
static int made(const char *name) { int fd = must(open(name, O_RDWR | O_CREAT, 0644)); must(write(fd, name, strlen(name))); must(ftruncate(fd, 4096)); return fd; }
int main(void) {
    must(mkdir(scenario_path("caf\xe9"), 0755));
    must(chdir(scenario_path("caf\xe9")));
    // Unicode takes the first two for equal, and a combining character for a part of what is before it.
    int alike[] = { made("\xc3\xa9"), made("e\xcc\x81"), made("\xcc\x81start") };
    int fd[] = { made("na\xefve"), made("gone\xfe"), made("first\xf4\x8f\xbc\x80"), made("\xf4\x8f\xbc\x80\xff"), must(open("link\xc3", O_RDWR | O_CREAT, 0644)) };
    must(unlink("gone\xfe")); must(rename("first\xf4\x8f\xbc\x80", "second\xe9"));
    int mapped = made("mapped\xe9");
    char *own = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped, 0)), *shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0));
    close(mapped);
    own[4000] = 'x';
    int listener = must(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un at = { AF_UNIX, "s\xf4" "ck\xe9t" };
    must(bind(listener, (void *)&at, sizeof at)); must(listen(listener, 1));
    char before[8][4096], after[4096], path[64], task[17] = "";
    must0(prctl(PR_SET_NAME, "ein recht grau\xc3\x9f" "er Name"));        // cut within a character
    for (int i = 0; i < 5; i++) { snprintf(path, sizeof path, "/proc/self/fd/%d", fd[i]); link_of(path, before[i]); }
    link_of("/proc/self/cwd", before[5]);
    prctl(PR_GET_NAME, before[6]);
    char alone[3][4096];
    for (int i = 0; i < 3; i++) { snprintf(path, sizeof path, "/proc/self/fd/%d", alike[i]); link_of(path, alone[i]); }
    scenario_wait();
    for (int i = 0; i < 3; i++) { snprintf(path, sizeof path, "/proc/self/fd/%d", alike[i]); link_of(path, after); check(!strcmp(alone[i], after)); }
    for (int i = 0; i < 5; i++) { snprintf(path, sizeof path, "/proc/self/fd/%d", fd[i]); link_of(path, after); if (i != 1) check(!strcmp(before[i], after)); }
    link_of("/proc/self/cwd", after); check(!strcmp(before[5], after));
    prctl(PR_GET_NAME, task); check(!strcmp(before[6], task));
    char text[8] = "";
    same(5, pread(fd[1], text, 5, 0)); check(!strcmp(text, "gone\xfe"));
    must(pwrite(fd[0], "!", 1, 0)); must(pwrite(fd[2], "!", 1, 0));
    struct stat s;
    must(stat("second\xe9", &s)); must(fstat(fd[2], &s)); same(1, (long)s.st_nlink);
    shared[0] = 'M';
    same('x', own[4000]);
    int client = must(socket(AF_UNIX, SOCK_STREAM, 0));
    must(connect(client, (void *)&at, sizeof at));
    return scenario_end();
}

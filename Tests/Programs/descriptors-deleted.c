// A file that has been deleted while open: contents (with its holes), offset, sharing; it stays without a name.
#include "scenario.h"
int main(void) {
    int a = must(open(scenario_path("gone.dat"), O_RDWR | O_CREAT, 0640));
    char block[70000];
    scenario_fill(block, sizeof block, 5);
    must(write(a, block, sizeof block));
    must(pwrite(a, "end", 3, 5 << 20));
    int b = must(open(scenario_path("gone.dat"), O_RDONLY));
    must(lseek(b, 8, SEEK_SET));
    must(unlink(scenario_path("gone.dat")));
    int unnamed = open(scenario_path("."), O_TMPFILE | O_RDWR, 0600);
    if (unnamed >= 0) must(write(unnamed, "unnamed", 7));
    struct stat st, now;
    must(fstat(a, &st));
    pid_t child = must(fork());
    if (!child) { scenario_touch("child"); scenario_await("first"); must(pwrite(a, "child", 5, 100)); scenario_leave(0); }
    scenario_await("child");
    scenario_wait();
    must(fstat(a, &now));
    same(0, now.st_nlink);
    same(st.st_size, now.st_size);
    same(st.st_mode, now.st_mode);
    same(st.st_uid, now.st_uid);
    check(now.st_blocks * 512 < (1 << 20));
    same(sizeof block, lseek(a, 0, SEEK_CUR));
    same(8, lseek(b, 0, SEEK_CUR));
    char back[70000];
    same(sizeof back, pread(a, back, sizeof back, 0));
    check(!memcmp(block, back, sizeof back));
    same(3, pread(b, back, 10, 5 << 20));
    check(!memcmp(back, "end", 3));
    must(pwrite(a, "again", 5, 50));
    same(5, pread(b, back, 5, 50));                         // a and b are one file
    check(!memcmp(back, "again", 5));
    scenario_touch("first");
    scenario_child(child, 0);
    same(5, pread(b, back, 5, 100));
    check(!memcmp(back, "child", 5));
    if (unnamed >= 0) { same(7, pread(unnamed, back, 10, 0)); check(!memcmp(back, "unnamed", 7)); }
    check(!scenario_exists("gone.dat"));
    return scenario_end();
}

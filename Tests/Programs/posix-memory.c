// POSIX shared memory and semaphores: named ones are memory, whose contents are of the checkpoint's instant, also where the name is gone by then.
#include "scenario.h"
#include <semaphore.h>
enum { SIZE = 40960 };
static char name[5][64];
static const char *named(int n) { snprintf(name[n], sizeof name[n], "/ckpt-scenario-%d-%d", getpid(), n); return name[n]; }
struct shared { sem_t unnamed; pthread_mutex_t mutex; int count; };
int main(int argc, char **argv) {
    int gone = argc > 1 && !strcmp(argv[1], "gone"), value;
    int fd = must(shm_open(named(0), O_RDWR | O_CREAT | O_EXCL, 0640)), kept = must(shm_open(named(1), O_RDWR | O_CREAT | O_EXCL, 0600));
    must(ftruncate(fd, SIZE)); must(ftruncate(kept, SIZE));
    char *a = must(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    scenario_fill(a, SIZE - 8192, 1);                // the end was never touched
    must(close(fd));
    must(pwrite(kept, "kept", 4, 4096));             // open, and mapped by nobody
    sem_t *s = sem_open(named(2), O_CREAT | O_EXCL, 0600, 3), *lost = sem_open(named(3), O_CREAT | O_EXCL, 0600, 7);
    check(s != SEM_FAILED && lost != SEM_FAILED);
    must(sem_unlink(named(3)));                       // has no name any more
    struct shared *u = must(mmap(NULL, sizeof *u, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pthread_mutexattr_t m; pthread_mutexattr_init(&m); pthread_mutexattr_setpshared(&m, PTHREAD_PROCESS_SHARED); pthread_mutex_init(&u->mutex, &m);
    must(sem_init(&u->unnamed, 1, 0));
    pid_t child = must(fork());
    if (!child) {
        must(sem_wait(lost));
        must0(pthread_mutex_lock(&u->mutex)); u->count = 5; must0(pthread_mutex_unlock(&u->mutex));
        scenario_touch("child");
        must(sem_wait(&u->unnamed));                  // waits through the checkpoint
        must(sem_wait(s));
        check(scenario_compare(a, SIZE - 8192, 1) < 0);
        a[0]++;
        must(sem_post(lost));
        scenario_leave(6);
    }
    scenario_await("child");
    scenario_wait();
    // Whatever happened to it since: somebody wrote, or took the names away.
    if (gone) check(access("/dev/shm", F_OK) == 0);
    check(scenario_compare(a, SIZE - 8192, 1) < 0); same(-1, scenario_nonzero(a + SIZE - 8192, 8192));
    char text[8] = ""; same(4, pread(kept, text, 4, 4096)); same(0, memcmp(text, "kept", 4));
    int again = must(shm_open(named(0), O_RDWR, 0));
    struct stat st; must(fstat(again, &st)); same(0640, st.st_mode & 0777); same(SIZE, st.st_size);
    char *b = must(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0));
    must(sem_getvalue(s, &value)); same(3, value);
    must(sem_getvalue(lost, &value)); same(6, value);
    sem_t *s2 = sem_open(named(2), 0); check(s2 != SEM_FAILED);
    char first = a[0];
    must(sem_post(&u->unnamed));
    scenario_child(child, 6);
    same((char)(first + 1), b[0]);
    must(sem_getvalue(s2, &value)); same(2, value);
    must(sem_getvalue(lost, &value)); same(7, value);
    same(5, u->count);
    must(shm_unlink(named(0))); must(shm_unlink(named(1))); must(sem_unlink(named(2)));
    return scenario_end();
}

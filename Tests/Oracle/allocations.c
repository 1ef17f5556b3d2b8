// Threads that allocate and free, children that exit: the same numbers whatever libc or allocator is below.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static void *churn(void *argument) {
    unsigned long h = (long)argument;
    void *held[64] = { 0 };
    for (int i = 0; i < 1000000; i++) {
        int k = h >> 7 & 63;
        size_t n = 16 + (h >> 13 & 4095);
        free(held[k]);
        held[k] = malloc(n);
        memset(held[k], h & 255, n);
        h = h * 6364136223846793005ul + ((unsigned char *)held[k])[n / 2];
    }
    return (void *)h;
}
int main(void) {
    for (int round = 0; round < 3; round++) {
        pthread_t thread[3];
        for (long i = 0; i < 3; i++) pthread_create(&thread[i], NULL, churn, (void *)(i + 1 + round));
        for (int i = 0; i < 3; i++) { void *h; pthread_join(thread[i], &h); printf("%d %d %lx\n", round, i, (long)h); }
        fflush(stdout);
        pid_t child = fork();
        if (!child) { usleep(100000); _exit(round + 3); }
        int status;
        waitpid(child, &status, 0);
        printf("child: %d\n", WEXITSTATUS(status));
        fflush(stdout);
    }
    return 0;
}

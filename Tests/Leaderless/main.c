// leaderless DIRECTORY
//
// Goes into a directory, starts a thread that stays until it is killed, and ends its first thread. /proc/<pid> then says
// what it says of a zombie: the thread alone has files and a working directory. See: man 3 pthread_exit, man 5 proc
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *stay(void *unused) {
    for (;;) pause();
    return unused;
}

int main(int count, char **arguments) {
    pthread_t thread;
    if (count != 2 || chdir(arguments[1]) != 0 || pthread_create(&thread, NULL, stay, NULL) != 0) {
        perror("leaderless");
        return 1;
    }
    prctl(PR_SET_NAME, "sleep");
    pthread_exit(NULL);
}

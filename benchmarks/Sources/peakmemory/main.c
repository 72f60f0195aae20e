// Runs a command and prints the most memory, in KiB, that it had resident at once.
//
// A program of its own, and small: a process started by vfork or posix_spawn is charged with what its parent had
// resident (exec accounts the address space that it leaves), so wtbench itself cannot be the parent.
// See: Linux fs/exec.c, exec_mmap() -> setmax_mm_hiwater_rss(); man 2 getrusage
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: peakmemory COMMAND...\n");
        return 64;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 1;
    }
    if (child == 0) {
        // The answer of this program goes to stdout; that of the command is not wanted.
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(arguments[1], arguments + 1);
        perror(arguments[1]);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (wait4(child, &status, 0, &usage) < 0) {
        perror("wait4");
        return 1;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return 1;
    printf("%ld\n", usage.ru_maxrss);
    return 0;
}

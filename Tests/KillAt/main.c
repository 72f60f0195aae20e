// killat N COMMAND [ARGUMENT]...
//
// Runs a command and kills it just before its Nth system call that changes a file, counted over all of its threads and
// child processes in the order in which they are made. With fewer such calls the command ends by itself.
//
// strace counts each thread by itself, so it cannot reach the second rename of a process when another thread makes it.
//
// Exits as the command did, with 128 and the signal's number when a signal ended it; 125 when it could not be traced.
// The killed call is named on standard error. See: man 2 ptrace
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
    fprintf(stderr, "killat: %s: %s\n", what, strerror(errno));
    exit(125);
}

// Whether a descriptor is of a file: pipes and event counters are written to all the time.
static int is_file(pid_t pid, unsigned long long descriptor) {
    char link[64], target[2];
    snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, (int)descriptor);
    return readlink(link, target, sizeof target) > 0 && target[0] == '/';
}

// The name of the call when it changes a file, else NULL.
static const char *change(pid_t pid, const struct __ptrace_syscall_info *info) {
    const __uint64_t *arguments = info->entry.args;
    switch (info->entry.nr) {
#define CALL(name) case SYS_##name: return #name
#define ON_FILE(name) case SYS_##name: return is_file(pid, arguments[0]) ? #name : NULL
#ifdef SYS_mkdir
        CALL(mkdir);
        CALL(rmdir);
        CALL(rename);
        CALL(unlink);
        CALL(link);
        CALL(symlink);
        CALL(chmod);
        CALL(creat);
        case SYS_open: return arguments[1] & (O_CREAT | O_TRUNC) ? "open" : NULL;
#endif
#ifdef SYS_renameat
        CALL(renameat);
#endif
        CALL(mkdirat);
        CALL(renameat2);
        CALL(unlinkat);
        CALL(linkat);
        CALL(symlinkat);
        CALL(fchmodat);
        CALL(utimensat);
        CALL(truncate);
        case SYS_openat: return arguments[2] & (O_CREAT | O_TRUNC) ? "openat" : NULL;
        ON_FILE(write);
        ON_FILE(writev);
        ON_FILE(pwrite64);
        ON_FILE(pwritev);
        ON_FILE(ftruncate);
        ON_FILE(fallocate);
        ON_FILE(fsync);
        ON_FILE(fdatasync);
        ON_FILE(fchmod);
        case SYS_copy_file_range: return "copy_file_range";
        case SYS_ioctl:
            switch (arguments[1]) {
                case FICLONE: return "FICLONE";
                case BTRFS_IOC_SUBVOL_CREATE: return "BTRFS_IOC_SUBVOL_CREATE";
                case BTRFS_IOC_SNAP_CREATE_V2: return "BTRFS_IOC_SNAP_CREATE_V2";
                case BTRFS_IOC_SUBVOL_SETFLAGS: return "BTRFS_IOC_SUBVOL_SETFLAGS";
                case BTRFS_IOC_SNAP_DESTROY: return "BTRFS_IOC_SNAP_DESTROY";
                default: return NULL;
            }
        default: return NULL;
    }
}

int main(int count, char **arguments) {
    char *end = NULL;
    long moment = count > 2 ? strtol(arguments[1], &end, 10) : 0;
    if (moment < 1 || *end != '\0') {
        fprintf(stderr, "usage: killat N COMMAND [ARGUMENT]...\n");
        return 64;
    }
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) fail("PTRACE_TRACEME");
        raise(SIGSTOP);
        execv(arguments[2], arguments + 2);
        fail(arguments[2]);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) fail("waitpid");
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, child, NULL, options) != 0) fail("PTRACE_SETOPTIONS");
    if (ptrace(PTRACE_SYSCALL, child, NULL, 0) != 0) fail("PTRACE_SYSCALL");
    long seen = 0;
    while (1) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) {
            if (errno == EINTR) continue;
            fail("waitpid");
        }
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid != child) continue;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        long signal = 0;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            if (seen < moment && ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0 &&
                info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                const char *name = change(pid, &info);
                if (name != NULL && ++seen == moment) {
                    fprintf(stderr, "killat: killed before call %ld, %s\n", moment, name);
                    // Not continued: the call is never made. Child processes end with this one.
                    kill(child, SIGKILL);
                    continue;
                }
            }
        } else if (status >> 16 == 0 && WSTOPSIG(status) != SIGSTOP) {
            // New threads and processes begin with a SIGSTOP that nobody sent; nothing else stops here.
            signal = WSTOPSIG(status);
        }
        // It may have been killed meanwhile.
        if (ptrace(PTRACE_SYSCALL, pid, NULL, signal) != 0 && errno != ESRCH) fail("PTRACE_SYSCALL");
    }
}

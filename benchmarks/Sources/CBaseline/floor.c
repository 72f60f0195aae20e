#define _GNU_SOURCE
#include "cbaseline.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

struct entry {
    char *path;
    uint32_t mode;
    uint64_t size;
};

struct bench_tree {
    struct entry *files, *directories;
    size_t file_count, file_room, directory_count, directory_room;
    char *content;
    uint64_t largest;
};

struct bench_tree *bench_tree_make(void) { return calloc(1, sizeof(struct bench_tree)); }

void bench_tree_free(struct bench_tree *tree) {
    if (!tree) return;
    for (size_t i = 0; i < tree->file_count; i++) free(tree->files[i].path);
    for (size_t i = 0; i < tree->directory_count; i++) free(tree->directories[i].path);
    free(tree->files);
    free(tree->directories);
    free(tree->content);
    free(tree);
}

static int append(struct entry **list, size_t *count, size_t *room, struct entry entry) {
    if (*count == *room) {
        size_t wanted = *room ? *room * 2 : 1024;
        struct entry *grown = realloc(*list, wanted * sizeof(struct entry));
        if (!grown) return -1;
        *list = grown;
        *room = wanted;
    }
    (*list)[(*count)++] = entry;
    return 0;
}

int bench_tree_add(struct bench_tree *tree, const char *path, uint32_t mode, uint64_t size) {
    struct entry entry = {strdup(path), mode, size};
    if (!entry.path) return -1;
    if (size > tree->largest) {
        // Any content will do: no filesystem measured here looks at it, unless it was told to compress.
        char *grown = realloc(tree->content, size);
        if (!grown) return -1;
        memset(grown + tree->largest, 'x', size - tree->largest);
        tree->content = grown;
        tree->largest = size;
    }
    // A submodule is an empty directory to the repository around it.
    if (mode == 0040000 || mode == 0160000)
        return append(&tree->directories, &tree->directory_count, &tree->directory_room, entry);
    return append(&tree->files, &tree->file_count, &tree->file_room, entry);
}

typedef int (*work)(const struct bench_tree *, const struct entry *, int top);

struct job {
    const struct bench_tree *tree;
    const struct entry *entries;
    size_t count;
    work work;
    int top;
    atomic_size_t next;
    atomic_int error;
};

static void *run(void *argument) {
    struct job *job = argument;
    const size_t chunk = 128;
    while (!atomic_load_explicit(&job->error, memory_order_relaxed)) {
        size_t begin = atomic_fetch_add(&job->next, chunk);
        if (begin >= job->count) break;
        size_t end = begin + chunk < job->count ? begin + chunk : job->count;
        for (size_t i = begin; i < end; i++) {
            if (job->work(job->tree, &job->entries[i], job->top) < 0) {
                atomic_store(&job->error, errno);
                return NULL;
            }
        }
    }
    return NULL;
}

static int for_each_of(
    const struct bench_tree *tree, const struct entry *entries, size_t entry_count, int top, int threads, work work) {
    enum { most = 64 };
    pthread_t started[most];
    struct job job = {.tree = tree, .entries = entries, .count = entry_count, .work = work, .top = top};
    int count = 0;
    if (threads > most) threads = most;
    // The caller is one of the threads.
    while (count < threads - 1 && (size_t)count * 128 < entry_count) {
        if (pthread_create(&started[count], NULL, run, &job) != 0) break;
        count++;
    }
    run(&job);
    while (count > 0) pthread_join(started[--count], NULL);
    int error = atomic_load(&job.error);
    if (error) errno = error;
    return error ? -1 : 0;
}

static int for_each(const struct bench_tree *tree, int top, int threads, work work) {
    return for_each_of(tree, tree->files, tree->file_count, top, threads, work);
}

static int write_one(const struct bench_tree *tree, const struct entry *entry, int top) {
    struct stat value;
    if (entry->mode == 0120000) {
        char target[4096];
        size_t length = entry->size < sizeof target ? entry->size : sizeof target - 1;
        memset(target, 'x', length);
        target[length] = 0;
        if (symlinkat(target, top, entry->path) < 0) return -1;
        return fstatat(top, entry->path, &value, AT_SYMLINK_NOFOLLOW);
    }
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    int file = openat(top, entry->path, flags, entry->mode == 0100755 ? 0777 : 0666);
    if (file < 0) return -1;
    for (uint64_t done = 0; done < entry->size;) {
        ssize_t count = write(file, tree->content + done, entry->size - done);
        if (count < 0) goto failed;
        done += (uint64_t)count;
    }
    if (fstat(file, &value) < 0) goto failed;
    return close(file);
failed:;
    int error = errno;
    close(file);
    errno = error;
    return -1;
}

static int stat_one(const struct bench_tree *tree, const struct entry *entry, int top) {
    (void)tree;
    struct stat value;
    return fstatat(top, entry->path, &value, AT_SYMLINK_NOFOLLOW);
}

static int list_one(const struct bench_tree *tree, const struct entry *entry, int top) {
    (void)tree;
    char buffer[1 << 15];
    int directory = openat(top, entry->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return -1;
    long count;
    // See: man 2 getdents64
    while ((count = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0) continue;
    close(directory);
    return count < 0 ? -1 : 0;
}

static int remove_one(const struct bench_tree *tree, const struct entry *entry, int top) {
    (void)tree;
    return unlinkat(top, entry->path, 0);
}

static int close_after(int top, int result) {
    int error = errno;
    close(top);
    errno = error;
    return result;
}

int bench_floor_write(const struct bench_tree *tree, const char *path, int threads) {
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) return -1;
    for (size_t i = 0; i < tree->directory_count; i++)
        if (mkdirat(top, tree->directories[i].path, 0777) < 0) return close_after(top, -1);
    return close_after(top, for_each(tree, top, threads, write_one));
}

int bench_floor_stat(const struct bench_tree *tree, const char *path, int threads) {
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) return -1;
    return close_after(top, for_each(tree, top, threads, stat_one));
}

int bench_floor_list(const struct bench_tree *tree, const char *path, int threads) {
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) return -1;
    return close_after(
        top, for_each_of(tree, tree->directories, tree->directory_count, top, threads, list_one));
}

int bench_floor_remove(const struct bench_tree *tree, const char *path, int threads) {
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) return -1;
    if (for_each(tree, top, threads, remove_one) < 0) return close_after(top, -1);
    for (size_t i = tree->directory_count; i > 0; i--)
        if (unlinkat(top, tree->directories[i - 1].path, AT_REMOVEDIR) < 0) return close_after(top, -1);
    return close_after(top, 0);
}

int bench_sync(const char *path) {
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return -1;
    return close_after(directory, syncfs(directory));
}

int bench_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int64_t bench_filesystem(const char *path) {
    struct statfs value;
    if (statfs(path, &value) < 0) return -1;
    return (int64_t)value.f_type & 0xffffffff;
}

// See: man 2 ioctl, and linux/btrfs.h: without BTRFS_SUBVOL_RDONLY in the flags a subvolume is writable.
void bench_subvolume_writable(const char *path) {
    int top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top < 0) return;
    uint64_t flags = 0;
    ioctl(top, BTRFS_IOC_SUBVOL_SETFLAGS, &flags);
    close(top);
}

// What the engine is measured against, in C so that nothing of Swift is charged to it: the system calls that nobody can
// do without (the floor), and libgit2's own worktree calls.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Names, modes and sizes of a commit's files; owned by the caller.
struct bench_tree;

struct bench_tree *bench_tree_make(void);
void bench_tree_free(struct bench_tree *tree);
/// Directories come before what they hold. The mode is git's: 040000, 0100644, 0100755, 0120000 or 0160000.
/// 0, or -1 with errno.
int bench_tree_add(struct bench_tree *tree, const char *path, uint32_t mode, uint64_t size);

/// Makes the directories below `top`, then writes every file from memory and fstats it, with so many threads.
/// 0, or -1 with errno.
int bench_floor_write(const struct bench_tree *tree, const char *top, int threads);
/// lstats every file: what no check for changes can do without.
int bench_floor_stat(const struct bench_tree *tree, const char *top, int threads);
/// Lists every directory: what no look for untracked files can do without.
int bench_floor_list(const struct bench_tree *tree, const char *top, int threads);
/// Unlinks every file with so many threads, then the directories, deepest first; `top` stays.
int bench_floor_remove(const struct bench_tree *tree, const char *top, int threads);

/// Writes out what a filesystem still has to write, so that the next sample does not pay for the last.
int bench_sync(const char *path);
/// A pipe that no other process started meanwhile inherits. See: man 2 pipe2, which Glibc's Swift module does not give
int bench_pipe(int ends[2]);
/// The magic number of the filesystem of a path; -1 with errno.
int64_t bench_filesystem(const char *path);

/// Lets files be deleted from a read-only btrfs subvolume, as the engine's templates are; anything else stays as it is.
void bench_subvolume_writable(const char *path);

/// `git_worktree_add` and `git_worktree_prune` on a repository, with the nanoseconds that opening it and the call took.
/// NULL, or the error message (static or of this thread).
const char *bench_libgit2_add(const char *repository, const char *name, const char *path, uint64_t *nanoseconds);
const char *bench_libgit2_prune(const char *repository, const char *name, uint64_t *nanoseconds);
const char *bench_libgit2_version(void);

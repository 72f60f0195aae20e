#include "cbaseline.h"
#include <git2.h>
#include <stdio.h>
#include <time.h>

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static const char *failure(void) {
    const git_error *error = git_error_last();
    return error && error->message ? error->message : "libgit2 failed without a message";
}

const char *bench_libgit2_add(const char *path, const char *name, const char *worktree, uint64_t *nanoseconds) {
    git_libgit2_init();
    git_worktree_add_options options = GIT_WORKTREE_ADD_OPTIONS_INIT;
    // The default of some versions leaves an empty index behind; this one gives the worktree that was asked for.
    options.checkout_options.checkout_strategy = GIT_CHECKOUT_FORCE;
    git_repository *repository = NULL;
    git_worktree *made = NULL;
    uint64_t began = now();
    int result = git_repository_open(&repository, path);
    if (result == 0) result = git_worktree_add(&made, repository, name, worktree, &options);
    *nanoseconds = now() - began;
    git_worktree_free(made);
    git_repository_free(repository);
    return result == 0 ? NULL : failure();
}

const char *bench_libgit2_prune(const char *path, const char *name, uint64_t *nanoseconds) {
    git_libgit2_init();
    git_worktree_prune_options options = GIT_WORKTREE_PRUNE_OPTIONS_INIT;
    options.flags = GIT_WORKTREE_PRUNE_VALID | GIT_WORKTREE_PRUNE_WORKING_TREE;
    git_repository *repository = NULL;
    git_worktree *found = NULL;
    uint64_t began = now();
    int result = git_repository_open(&repository, path);
    if (result == 0) result = git_worktree_lookup(&found, repository, name);
    if (result == 0) result = git_worktree_prune(found, &options);
    *nanoseconds = now() - began;
    git_worktree_free(found);
    git_repository_free(repository);
    return result == 0 ? NULL : failure();
}

const char *bench_libgit2_version(void) {
    static _Thread_local char text[32];
    int major, minor, revision;
    git_libgit2_version(&major, &minor, &revision);
    snprintf(text, sizeof text, "%d.%d.%d", major, minor, revision);
    return text;
}

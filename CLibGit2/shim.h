// Swift cannot call C variadics; everything else of libgit2 is used as it is.
#include <git2.h>
#include <git2/sys/repository.h>

static inline int wt_git_opts_set_bool(int option, int enabled) {
    return git_libgit2_opts(option, enabled);
}

static inline int wt_git_opts_set_cache_limit(git_object_t type, size_t value) {
    return git_libgit2_opts(GIT_OPT_SET_CACHE_OBJECT_LIMIT, type, value);
}

static inline int wt_git_opts_set_size(int option, size_t value) {
    return git_libgit2_opts(option, value);
}

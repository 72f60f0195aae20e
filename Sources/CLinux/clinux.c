#include "clinux.h"

// A header whose types Glibc's Swift module has too: seen through this one as well, they would be two.
#include <sys/inotify.h>

int linux_inotify_init(void) { return inotify_init1(IN_NONBLOCK | IN_CLOEXEC); }

int linux_inotify_watch(int instance, int directory) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", directory);
    return inotify_add_watch(
        instance, path, IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR);
}

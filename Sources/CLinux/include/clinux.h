// System calls that Glibc's Swift module does not export, each as a thin
// inline wrapper that returns -1 and sets errno like every other call.
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x00002000
#endif

/// See: man 2 openat2. `resolve` is a set of RESOLVE_* bits.
static inline int linux_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));
}

static const uint64_t LINUX_RESOLVE_BENEATH_STRICT =
    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;

/// See: man 2 renameat2. Fails with EEXIST where plain rename would replace.
static inline int linux_rename_noreplace(int from_directory, const char *from, int to_directory, const char *to) {
    return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, RENAME_NOREPLACE);
}

/// 1 when the descriptor is the root of a mount, 0 when not, -1 with errno.
/// See: man 2 statx (STATX_ATTR_MOUNT_ROOT, Linux 5.8).
static inline int linux_is_mount_root(int descriptor) {
    struct statx value;
    if (syscall(SYS_statx, descriptor, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &value) < 0) return -1;
    if (!(value.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)) return 0;
    return (value.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/// The file that a path resolves to, and the mount that it is on.
struct linux_mounted_file {
    uint64_t device;
    uint64_t inode;
    /// How many names it has; 0 for a file that was deleted.
    uint32_t links;
    /// As in /proc/<pid>/mountinfo; 0 when it is not known.
    uint64_t mount;
};

/// Returns 0, or -1 with errno. `flags` may be AT_SYMLINK_NOFOLLOW. Does not make a network or FUSE filesystem refresh
/// attributes. Falls back to fstatat where statx is unavailable: the mount is not known then, and a server may be asked.
/// See: man 2 statx (STATX_MNT_ID, Linux 5.8)
static inline int linux_stat_mount(int directory, const char *path, int flags, struct linux_mounted_file *file) {
    struct statx value;
    const int quiet = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
    if (syscall(SYS_statx, directory, path, flags | quiet, STATX_INO | STATX_NLINK | STATX_MNT_ID, &value) == 0) {
        file->device = makedev(value.stx_dev_major, value.stx_dev_minor);
        file->inode = value.stx_ino;
        file->links = value.stx_nlink;
        file->mount = value.stx_mask & STATX_MNT_ID ? value.stx_mnt_id : 0;
        return 0;
    }
    struct stat plain;
    if ((errno != ENOSYS && errno != EPERM) || fstatat(directory, path, &plain, flags) != 0) return -1;
    file->device = plain.st_dev;
    file->inode = plain.st_ino;
    file->links = plain.st_nlink;
    file->mount = 0;
    return 0;
}

/// Combines major and minor to a device number. See: man 3 makedev
static inline uint64_t linux_device(unsigned int major, unsigned int minor) { return makedev(major, minor); }

/// Open-file-description lock of one byte; released by the kernel when the
/// description is closed, also at a crash. See: man 2 fcntl (F_OFD_SETLK).
static inline int linux_try_lock_byte(int descriptor, int64_t offset) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1, .l_pid = 0};
    return fcntl(descriptor, F_OFD_SETLK, &lock);
}

/// Gives the lock up at once, also where a child between fork and exec still shares the description.
static inline int linux_unlock_byte(int descriptor, int64_t offset) {
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1, .l_pid = 0};
    return fcntl(descriptor, F_OFD_SETLK, &lock);
}

/// A descriptor of a process, readable once that has ended. See: man 2 pidfd_open (Linux 5.3)
static inline int linux_pidfd_open(pid_t process) { return (int)syscall(SYS_pidfd_open, process, 0); }

/// Takes this process's memory and environment away from other processes of its user, and core dumps with them.
/// See: man 2 PR_SET_DUMPABLE, man 5 proc (a process that is not dumpable belongs to root there)
static inline int linux_hide_memory(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

/// Starts a program as the leader of a session and process group of its own, with the working directory given, `input`
/// as its standard input, and both outputs appended to a file. It inherits no other descriptor, and neither blocks nor
/// ignores a signal, whatever this process does. Returns 0, or the number of an error.
/// See: man 3 posix_spawn, man 3 posix_spawn_file_actions_addclosefrom_np (glibc 2.34)
int linux_spawn_leader(pid_t *process, const char *directory, int input, const char *output, char *const arguments[],
                       char *const environment[]);

/// Lowers the priority of the calling thread, for the processor (nice 10) and the disk (the last of best effort).
/// See: man 2 setpriority (on Linux the nice value belongs to a thread), man 2 ioprio_set
static inline int linux_lower_priority(void) {
    // By number: <sys/resource.h> with _GNU_SOURCE clashes with Glibc's Swift module, which has no ioprio_set at all.
    const int this_thread = 0, prio_process = 0, ioprio_who_process = 1, best_effort = 2 << 13;
    long disk = syscall(SYS_ioprio_set, ioprio_who_process, this_thread, best_effort | 7);
    long processor = syscall(SYS_setpriority, prio_process, this_thread, 10);
    return disk == 0 && processor == 0 ? 0 : -1;
}

/// Fills the buffer with `struct linux_dirent64` records; 0 at the end of the directory. See: man 2 getdents64
static inline long linux_getdents64(int directory, void *buffer, size_t size) {
    return syscall(SYS_getdents64, directory, buffer, size);
}

/// Gives memory that was freed back to the system. See: man 3 malloc_trim
static inline int linux_malloc_trim(void) { return malloc_trim(0); }

static inline int linux_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
static inline int linux_openat(int directory, const char *path, int flags, mode_t mode) {
    return openat(directory, path, flags, mode);
}

/// A new inotify instance that does not block. See: man 2 inotify_init1
int linux_inotify_init(void);

/// Watches an open directory for every change of it and of the files in it. inotify takes paths only; this one leads
/// to the very directory. Not IN_CLOSE_WRITE: a child that is forked while a file is written closes its copy of the
/// descriptor at exec, long after. See: man 7 inotify
int linux_inotify_watch(int instance, int directory);

/// Makes a btrfs subvolume; ENOTTY where the filesystem has none. The name must be shorter than 4,087 bytes.
/// See: man 2 ioctl_btrfs (BTRFS_IOC_SUBVOL_CREATE), linux/btrfs.h
static inline int linux_subvolume_create(int directory, const char *name) {
    struct btrfs_ioctl_vol_args arguments;
    memset(&arguments, 0, sizeof arguments);
    strncpy(arguments.name, name, BTRFS_PATH_NAME_MAX);
    return ioctl(directory, BTRFS_IOC_SUBVOL_CREATE, &arguments);
}

/// Makes a writable snapshot of an open subvolume. See: man 2 ioctl_btrfs (BTRFS_IOC_SNAP_CREATE_V2)
static inline int linux_subvolume_snapshot(int source, int directory, const char *name) {
    struct btrfs_ioctl_vol_args_v2 arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.fd = source;
    strncpy(arguments.name, name, BTRFS_SUBVOL_NAME_MAX);
    return ioctl(directory, BTRFS_IOC_SNAP_CREATE_V2, &arguments);
}

/// Removes a subvolume with all files in it. See: man 2 ioctl_btrfs (BTRFS_IOC_SNAP_DESTROY)
static inline int linux_subvolume_destroy(int directory, const char *name) {
    struct btrfs_ioctl_vol_args arguments;
    memset(&arguments, 0, sizeof arguments);
    strncpy(arguments.name, name, BTRFS_PATH_NAME_MAX);
    return ioctl(directory, BTRFS_IOC_SNAP_DESTROY, &arguments);
}

/// 1 when an open subvolume may not be written, 0 when it may, -1 with errno.
/// See: man 2 ioctl_btrfs (BTRFS_IOC_SUBVOL_GETFLAGS)
static inline int linux_subvolume_is_read_only(int subvolume) {
    uint64_t flags = 0;
    if (ioctl(subvolume, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) < 0) return -1;
    return (flags & BTRFS_SUBVOL_RDONLY) != 0;
}

static inline int linux_subvolume_set_read_only(int subvolume, int value) {
    uint64_t flags = value ? BTRFS_SUBVOL_RDONLY : 0;
    return ioctl(subvolume, BTRFS_IOC_SUBVOL_SETFLAGS, &flags);
}

/// Device number for an identity: on btrfs, where `st_dev` is given anew with each mount, the id of the filesystem and
/// of the subvolume; 0 elsewhere. See: linux/fs/btrfs/super.c (btrfs_statfs)
static inline uint64_t linux_btrfs_id(int descriptor) {
    struct statfs value;
    if (fstatfs(descriptor, &value) != 0 || (unsigned long)value.f_type != 0x9123683EUL) return 0;
    return (uint64_t)(uint32_t)value.f_fsid.__val[0] << 32 | (uint32_t)value.f_fsid.__val[1];
}

/// Whether files of one filesystem may have different device numbers: on btrfs each subvolume has its own, on overlayfs each
/// layer may. See: linux/Documentation/filesystems/overlayfs.rst (Inode properties)
static inline int linux_has_many_devices(int descriptor) {
    struct statfs value;
    if (fstatfs(descriptor, &value) != 0) return 0;
    return (unsigned long)value.f_type == 0x9123683EUL || (unsigned long)value.f_type == 0x794c7630UL;
}

/// Whether names in a directory are compared without regard to their case. See: linux/fs.h (FS_CASEFOLD_FL)
static inline int linux_is_case_folded(int directory) {
    int flags = 0;
    // A filesystem that has no such flags folds no case.
    return ioctl(directory, FS_IOC_GETFLAGS, &flags) == 0 && (flags & 0x40000000) != 0;
}

/// Makes a file a clone of another one's content. See: man 2 ioctl_ficlone
static inline int linux_clone_file(int destination, int source) { return ioctl(destination, FICLONE, source); }

/// An anonymous file in memory that takes no more than `size` bytes: a write beyond fails with EPERM.
/// See: man 2 memfd_create, man 2 F_ADD_SEALS (fcntl)
static inline int linux_bounded_memory_file(const char *name, off_t size) {
    int descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0) return -1;
    if (ftruncate(descriptor, size) == 0 && fcntl(descriptor, F_ADD_SEALS, F_SEAL_GROW) == 0) return descriptor;
    int failure = errno;
    close(descriptor);
    errno = failure;
    return -1;
}

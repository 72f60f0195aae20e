import CLinux
import Glibc
import SystemPackage

/// Subvolumes of btrfs, by ioctl. A subvolume looks like a directory, has a device number of its own, and is no mount.
/// See: man 5 btrfs (SUBVOLUMES), man 2 ioctl_btrfs
enum Subvolume {
    /// The inode number of every subvolume's top. See: linux/btrfs_tree.h (`BTRFS_FIRST_FREE_OBJECTID`)
    private static let topInode: ino_t = 256

    /// Makes an empty subvolume.
    /// - Returns: false where there are none, or where this process may not make any.
    static func make(_ name: String, in directory: borrowing Directory) throws(SystemError) -> Bool {
        guard linux_btrfs_id(directory.descriptor) != 0 else { return false }
        if linux_subvolume_create(directory.descriptor, name) == 0 { return true }
        guard [ENOTTY, EPERM, EACCES, EOPNOTSUPP, ENOSYS].contains(Glibc.errno) else {
            throw .last("BTRFS_IOC_SUBVOL_CREATE", "\(directory.path)/\(name)")
        }
        return false
    }

    /// Makes a writable snapshot of `source`. Inode numbers and times stay as they are, so that the index of the one is
    /// that of the other.
    static func snapshot(
        _ source: borrowing Directory, as name: String, in directory: borrowing Directory
    ) throws(SystemError) {
        let from = source.descriptor
        try system("BTRFS_IOC_SNAP_CREATE_V2", "\(source.path) -> \(directory.path)/\(name)") {
            linux_subvolume_snapshot(from, directory.descriptor, name)
        }
    }

    /// Forbids any write to a subvolume, also by its owner.
    static func setReadOnly(_ subvolume: borrowing Directory) throws(SystemError) {
        try system("BTRFS_IOC_SUBVOL_SETFLAGS", subvolume.path) {
            linux_subvolume_set_read_only(subvolume.descriptor, 1)
        }
    }

    static func isReadOnly(_ subvolume: borrowing Directory) -> Bool {
        linux_subvolume_is_read_only(subvolume.descriptor) == 1
    }

    /// Removes a subvolume and all files in it, when `name` is one and the kernel allows it: it needs a privilege or
    /// the mount option `user_subvol_rm_allowed`, and no subvolume inside.
    ///
    /// Where it does not, a read-only subvolume is made writable, so that its files can be unlinked one by one; the
    /// kernel removes an empty subvolume as it does a directory. See: linux/fs/btrfs/ioctl.c (`btrfs_ioctl_snap_destroy`)
    /// - Returns: whether it is gone.
    static func destroy(_ name: String, in directory: borrowing Directory) throws(SystemError) -> Bool {
        var value = stat()
        guard fstatat(directory.descriptor, name, &value, AT_SYMLINK_NOFOLLOW) == 0, value.st_ino == topInode,
            value.st_mode & S_IFMT == S_IFDIR, linux_btrfs_id(directory.descriptor) != 0
        else { return false }
        let subvolume = try directory.open(name)
        // Another filesystem may be mounted over it.
        guard linux_btrfs_id(subvolume.descriptor) != 0, linux_is_mount_root(subvolume.descriptor) == 0 else {
            return false
        }
        if linux_subvolume_destroy(directory.descriptor, name) == 0 { return true }
        if Glibc.errno == ENOENT { return true }
        if isReadOnly(subvolume) {
            try system("BTRFS_IOC_SUBVOL_SETFLAGS", subvolume.path) {
                linux_subvolume_set_read_only(subvolume.descriptor, 0)
            }
        }
        return false
    }
}

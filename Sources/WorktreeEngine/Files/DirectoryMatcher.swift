import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Decides whether an open file is inside one of the given directories.
///
/// The kernel reports an open file by a path, and every mount gives the same directory another path. So the first of these
/// tests that can decide is used:
///
/// 1. the path, if the file was opened through the mount that the directory is on;
/// 2. the location in the filesystem, if the mount table of the process lists the mount;
/// 3. device and inode, compared with every file in the directory. This walks the directory but needs no mount table: the
///    table of a process in a chroot omits mounts outside of the chroot, and no table lists a detached mount.
final class DirectoryMatcher: Sendable {
    struct Target {
        let path: [UInt8]
        let file: linux_mounted_file
        /// Nil when the mount table of this process does not list its mount.
        let location: MountTable.Location?
        /// It is on the mount of `/`, so that its location, even if it is not known, ends in ``path``.
        let isOnRootMount: Bool
        /// Device numbers do not identify the filesystem there.
        let hasManyDevices: Bool
    }

    let targets: [Target]
    /// The mounts of the first process, which every user may list. They are often those outside of a chroot or container.
    let hostTable: MountTable?
    private let ownNamespace: [UInt8]
    private let knownPaths: Mutex<[[UInt8]: NamespacePaths]>
    private struct Contents {
        var files: Set<FileID> = []
        /// Of the first directory that could not be read.
        var unreadable: SystemError?
    }
    private let contents = Mutex<Contents?>(nil)
    private struct MappedFile: Hashable {
        let name: String
        let file: FileID
    }
    private let mappedFiles = Mutex<[MappedFile: Bool]>([:])

    /// - Parameter paths: absolute and real. A path that does not exist is compared by path only.
    /// - Throws: ``SystemError`` when a path cannot be inspected.
    init(_ paths: [String]) throws(SystemError) {
        let table = MountTable(of: "self")
        var root = linux_mounted_file()
        try system("statx", "/") { linux_stat_mount(AT_FDCWD, "/", 0, &root) }
        let rootMount = root.mount
        hostTable = MountTable(of: "1")
        targets = try paths.map { path throws(SystemError) in
            var file = linux_mounted_file()
            do throws(SystemError) {
                try system("statx", path) { linux_stat_mount(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &file) }
            } catch { if error.errno != .noSuchFileOrDirectory { throw error } }
            return Target(
                path: Array(path.utf8), file: file, location: table?.location(of: path.utf8, mount: file.mount),
                isOnRootMount: file.mount != 0 && file.mount == rootMount, hasManyDevices: isOnManyDevices(path))
        }
        ownNamespace = withLinkTarget(AT_FDCWD, "/proc/self/ns/mnt") { Array($0) }
        knownPaths = Mutex([ownNamespace: NamespacePaths(own: table, targets)])
    }

    /// Returns the comparison for a process.
    /// - Parameter path: its directory below /proc, such as `42` or `42/task/43`.
    func comparison(for path: String, _ process: borrowing Directory) -> ProcessComparison {
        let namespace = withLinkTarget(process.descriptor, "ns/mnt") { Array($0) }
        if !namespace.isEmpty, let known = knownPaths.withLock({ $0[namespace] }) {
            return ProcessComparison(matcher: self, paths: known)
        }
        let root = withLinkTarget(process.descriptor, "root") { Array($0) }
        guard let table = MountTable(of: path), !root.isEmpty else {
            return ProcessComparison(matcher: self, paths: NamespacePaths(nil))
        }
        let made = NamespacePaths(table, root: root)
        // The table of a process in a chroot is its own.
        if !namespace.isEmpty, made.root.isEmpty { knownPaths.withLock { $0[namespace] = made } }
        return ProcessComparison(matcher: self, paths: made)
    }

    /// Returns whether the file is in one of the directories, under any name.
    /// - Throws: ``SystemError`` when it may be in a directory that cannot be read.
    func contains(_ file: FileID) throws(SystemError) -> Bool {
        let contents = try allFiles()
        if contents.files.contains(file) { return true }
        if let unreadable = contents.unreadable { throw unreadable }
        return false
    }

    /// Does the same for /proc/<pid>/maps, which on btrfs has the device of the filesystem, not that of the subvolume.
    ///
    /// Not for directories that cannot be read: the files that a process has mapped come and go, and many are deleted.
    func containsMapped(_ file: FileID) throws(SystemError) -> Bool {
        let files = try allFiles().files
        return files.contains(file)
            || targets.contains(where: \.hasManyDevices) && files.contains { $0.inode == file.inode }
    }

    /// Most processes have mapped the same libraries.
    func remembering(
        _ name: String, _ file: FileID, _ decide: () throws(SystemError) -> Bool
    ) throws(SystemError) -> Bool {
        let key = MappedFile(name: name, file: file)
        if let known = mappedFiles.withLock({ $0[key] }) { return known }
        let isInside = try decide()
        mappedFiles.withLock { $0[key] = isInside }
        return isInside
    }

    private func allFiles() throws(SystemError) -> Contents {
        try contents.withLock { contents throws(SystemError) in
            if let contents { return contents }
            var found = Contents()
            for target in targets where target.file.inode != 0 {
                found.files.insert(FileID(device: target.file.device, inode: target.file.inode))
                do throws(SystemError) {
                    let top = try Directory(String(decoding: target.path, as: UTF8.self))
                    let unreadable = try top.forEachFileBelow { found.files.insert($0) }
                    found.unreadable = found.unreadable ?? unreadable
                } catch { if error.errno != .noSuchFileOrDirectory, error.errno != .notDirectory { throw error } }
            }
            contents = found
            return found
        }
    }
}

/// Calls `body` with the target of a link. The buffer is empty when the link cannot be read.
func withLinkTarget<T, E>(
    _ directory: CInt, _ name: UnsafePointer<CChar>, _ body: (UnsafeRawBufferPointer) throws(E) -> T
) throws(E) -> T {
    try withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer throws(E) in
        let count = readlinkat(directory, name, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
        return try body(UnsafeRawBufferPointer(rebasing: buffer[..<max(count, 0)]))
    }
}

private func isOnManyDevices(_ path: String) -> Bool {
    let handle = linux_open(path, O_PATH_FLAG | O_NOFOLLOW | O_CLOEXEC, 0)
    guard handle >= 0 else { return false }
    defer { close(handle) }
    return linux_has_many_devices(handle) != 0
}

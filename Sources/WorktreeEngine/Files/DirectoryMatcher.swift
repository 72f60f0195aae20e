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
        /// Each subvolume has a device number of its own there, so the number does not identify the filesystem.
        let isBtrfs: Bool
    }

    fileprivate let targets: [Target]
    private let ownNamespace: [UInt8]
    private let knownPaths: Mutex<[[UInt8]: NamespacePaths]>
    private let contents = Mutex<Set<FileID>?>(nil)

    /// - Parameter paths: absolute and real. A path that does not exist is compared by path only.
    /// - Throws: ``SystemError`` when a path cannot be inspected.
    init(_ paths: [String]) throws(SystemError) {
        let table = MountTable(of: "self")
        var root = linux_mounted_file()
        try system("statx", "/") { linux_stat_mount(AT_FDCWD, "/", 0, &root) }
        let rootMount = root.mount
        targets = try paths.map { path throws(SystemError) in
            var file = linux_mounted_file()
            do throws(SystemError) {
                try system("statx", path) { linux_stat_mount(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &file) }
            } catch { if error.errno != .noSuchFileOrDirectory { throw error } }
            return Target(
                path: Array(path.utf8), file: file, location: table?.location(of: path.utf8, mount: file.mount),
                isOnRootMount: file.mount != 0 && file.mount == rootMount, isBtrfs: isOnBtrfs(path))
        }
        ownNamespace = withLinkTarget(AT_FDCWD, "/proc/self/ns/mnt") { Array($0) }
        knownPaths = Mutex([ownNamespace: NamespacePaths(table, targets, isOwn: true)])
    }

    /// Returns the comparison for a process.
    /// - Parameter path: its directory below /proc, such as `42` or `42/task/43`.
    func comparison(for path: String, _ process: borrowing Directory) -> ProcessComparison {
        let namespace = withLinkTarget(process.descriptor, "ns/mnt") { Array($0) }
        if !namespace.isEmpty, let known = knownPaths.withLock({ $0[namespace] }) {
            return ProcessComparison(matcher: self, paths: known)
        }
        // The kernel reports paths in another namespace relative to the root of that namespace, but the mount table of a
        // process in a chroot relative to the chroot.
        guard !namespace.isEmpty, withLinkTarget(process.descriptor, "root", { $0.elementsEqual("/".utf8) }),
            let table = MountTable(of: path)
        else { return ProcessComparison(matcher: self, paths: NamespacePaths(nil, targets)) }
        let made = NamespacePaths(table, targets)
        knownPaths.withLock { $0[namespace] = made }
        return ProcessComparison(matcher: self, paths: made)
    }

    /// Returns whether the file is in one of the directories, under any name.
    fileprivate func contains(_ file: FileID) throws(SystemError) -> Bool { try allFiles().contains(file) }

    /// Does the same for /proc/<pid>/maps, which on btrfs has the device of the filesystem, not that of the subvolume.
    fileprivate func containsMapped(_ file: FileID) throws(SystemError) -> Bool {
        let files = try allFiles()
        return files.contains(file) || targets.contains(where: \.isBtrfs) && files.contains { $0.inode == file.inode }
    }

    private func allFiles() throws(SystemError) -> Set<FileID> {
        try contents.withLock { contents throws(SystemError) in
            if let contents { return contents }
            var files: Set<FileID> = []
            for target in targets where target.file.inode != 0 {
                files.insert(FileID(device: target.file.device, inode: target.file.inode))
                do throws(SystemError) {
                    let top = try Directory(String(decoding: target.path, as: UTF8.self))
                    try top.forEachFileBelow { files.insert($0) }
                } catch { if error.errno != .noSuchFileOrDirectory, error.errno != .notDirectory { throw error } }
            }
            contents = files
            return files
        }
    }
}

/// The paths by which the processes of a mount namespace reach the directories.
private struct NamespacePaths: Sendable {
    /// Nil when it cannot be read, or when its mount points are relative to another root than the paths in /proc.
    let table: MountTable?
    /// Every path that the mount table gives the directories.
    let paths: [[UInt8]]
    /// Whether ``paths`` has all of them.
    let isComplete: Bool
    /// The namespace is that of this process.
    let isOwn: Bool

    init(_ table: MountTable?, _ targets: [DirectoryMatcher.Target], isOwn: Bool = false) {
        self.table = table
        self.isOwn = isOwn
        let others = targets.compactMap(\.location).flatMap { table?.paths(to: $0) ?? [] }
        paths = Array(Set(targets.map(\.path) + others))
        isComplete = table != nil && targets.allSatisfy { $0.location != nil || $0.file.inode == 0 }
    }
}

/// Compares what one process has open with the directories.
struct ProcessComparison {
    private let matcher: DirectoryMatcher
    private let paths: NamespacePaths

    fileprivate init(matcher: DirectoryMatcher, paths: NamespacePaths) {
        self.matcher = matcher
        self.paths = paths
    }

    /// Returns what the process holds inside one of the directories (`cwd`, `fd 3`, ...), the first that is found.
    /// - Throws: ``SystemError`` when a directory has to be walked to decide, and cannot be.
    func firstInside(_ process: borrowing Directory, _ mappings: Bool) throws(SystemError) -> String? {
        for name in ["cwd", "root", "exe"] where try isInside(process.descriptor, name) { return name }
        if mappings, try hasMapping(process) { return "mapping" }
        guard let files = try? process.open("fd") else { return nil }
        var found: String?
        var failure: SystemError?
        let descriptor = files.descriptor
        // A process that ends meanwhile has nothing open any more.
        try? files.forEachName { name, _ in
            guard found == nil, failure == nil else { return }
            do throws(SystemError) {
                if try isInside(descriptor, name) { found = "fd \(String(cString: name))" }
            } catch { failure = error }
        }
        if let failure { throw failure }
        return found
    }

    /// A scan of a machine reads thousands of links, so bytes are compared without copying them.
    private func isInside(_ directory: CInt, _ name: UnsafePointer<CChar>) throws(SystemError) -> Bool {
        try withLinkTarget(directory, name) { link throws(SystemError) in
            if paths.paths.contains(where: { isBelow($0, link) }) { return true }
            // Sockets and pipes have no path: `socket:[1]`, `pipe:[2]`.
            guard link.first == UInt8(ascii: "/") else { return false }
            var file = linux_mounted_file()
            // Closed meanwhile, or on a filesystem that does not respond. No workdir that is cleaned up is on such a filesystem.
            guard linux_stat_mount(directory, name, 0, &file) == 0 else { return false }
            return try isInside(file, link)
        }
    }

    private func isInside(_ file: linux_mounted_file, _ path: some Collection<UInt8>) throws(SystemError) -> Bool {
        for target in matcher.targets where target.isBtrfs || target.file.device == file.device {
            // The same mount: the comparison of paths has decided.
            if file.mount != 0, target.file.mount == file.mount { continue }
            let own = paths.table?.location(of: path, mount: file.mount)
            if let own, let location = target.location {
                if own.isInside(location) { return true }
            } else if let own, target.isOnRootMount, !own.mayBeInside(target.path) {
                continue
            } else if try matcher.contains(FileID(device: file.device, inode: file.inode)) {
                return true
            }
        }
        return false
    }

    /// A line ends in the path of the file, after blanks. See: man 5 proc (/proc/pid/maps)
    private func hasMapping(_ process: borrowing Directory) throws(SystemError) -> Bool {
        guard let table = contents(of: "\(process.path)/maps") else { return false }
        let hasPath = paths.paths.contains { path in
            // Nobody else's lines begin with it, so most tables are searched once and that is all.
            var rest = table[...]
            while let start = find(path, in: rest) {
                let end = start + path.count
                let isWhole =
                    end == table.count
                    || [UInt8(ascii: "/"), UInt8(ascii: "\n"), UInt8(ascii: " ")].contains(table[end])
                if isWhole, start > 0, table[start - 1] == UInt8(ascii: " ") { return true }
                rest = table[end...]
            }
            return false
        }
        if hasPath || paths.isComplete { return hasPath }
        for (file, path) in mappedFiles(table) where try isInside(mapped: file, path) { return true }
        return false
    }

    private func isInside(mapped file: FileID, _ path: [UInt8]) throws(SystemError) -> Bool {
        guard matcher.targets.contains(where: { $0.isBtrfs || $0.file.device == file.device }) else { return false }
        // A path of this namespace says more than the table of mappings: which mount the file is on.
        var found = linux_mounted_file()
        if paths.isOwn, linux_stat_mount(AT_FDCWD, String(decoding: path, as: UTF8.self), 0, &found) == 0,
            found.inode == file.inode
        {
            return try isInside(found, path)
        }
        return try matcher.containsMapped(file)
    }

    /// `<addresses> <mode> <offset> <device> <inode> <path>`, with the device as `major:minor` in hexadecimal digits.
    private func mappedFiles(_ table: [UInt8]) -> [FileID: [UInt8]] {
        var files: [FileID: [UInt8]] = [:]
        for line in table.split(separator: UInt8(ascii: "\n")) {
            let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 5)
            guard fields.count > 5, let inode = UInt64(String(decoding: fields[4], as: UTF8.self)), inode != 0 else {
                continue
            }
            let device = String(decoding: fields[3], as: UTF8.self).split(separator: ":").compactMap {
                UInt32($0, radix: 16)
            }
            guard device.count == 2 else { continue }
            let path = Array(fields[5].drop { $0 == UInt8(ascii: " ") })
            files[FileID(device: linux_device(device[0], device[1]), inode: inode)] = path
        }
        return files
    }

    private func find(_ path: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
        bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress, let found = memmem(base, buffer.count, path, path.count) else {
                return nil
            }
            return bytes.startIndex + (UnsafeRawPointer(found) - base)
        }
    }

    private func isBelow(_ directory: [UInt8], _ path: UnsafeRawBufferPointer) -> Bool {
        path.starts(with: directory)
            && (path.count == directory.count || path[directory.count] == UInt8(ascii: "/"))
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

private func isOnBtrfs(_ path: String) -> Bool {
    let handle = linux_open(path, O_PATH_FLAG | O_NOFOLLOW | O_CLOEXEC, 0)
    guard handle >= 0 else { return false }
    defer { close(handle) }
    return linux_btrfs_id(handle) != 0
}

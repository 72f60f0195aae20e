import CLinux
import Glibc
import SystemPackage

/// Identifies a file, whatever its names are.
struct FileID: Hashable, Sendable {
    let device: UInt64
    let inode: UInt64
}

extension Directory {
    /// Calls `body` for every file and directory below this one. May miss entries that are deleted during the walk.
    ///
    /// Uses a fixed number of descriptors, and names instead of paths, so that a deep tree hits no limit.
    /// - Returns: the error of the first directory that this user may not read, whose files are left out; nil when there is
    ///   none.
    /// - Throws: ``SystemError`` when a directory cannot be read for another reason, or is a mount point.
    func forEachFileBelow(_ body: (FileID) -> Void) throws(SystemError) -> SystemError? {
        var unreadable: SystemError?
        var current = try again()
        // The directories from the top to the current one: name, identity, and the subdirectories still to enter.
        var levels = [Level(name: [], id: try current.fileID(), remaining: try current.visitEntries(body))]
        func path() -> String {
            levels.dropFirst().reduce(self.path) { "\($0)/\(text($1.name))" }
        }
        while true {
            guard let name = levels[levels.count - 1].remaining.popLast() else {
                levels.removeLast()
                guard let parent = levels.last else { return unreadable }
                let above = try current.open("..")
                guard try above.fileID() == parent.id else {
                    throw SystemError(call: "open (moved while it was read)", path: path(), errno: .staleNFSFileHandle)
                }
                current = Directory(descriptor: try duplicate(above.descriptor, path()), path: path())
                continue
            }
            do throws(SystemError) {
                current = try current.open(raw: name)
            } catch {
                // Gone, or replaced by something else.
                if error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory { continue }
                guard error.errno == .permissionDenied else { throw error }
                unreadable = unreadable ?? error
                continue
            }
            guard linux_is_mount_root(current.descriptor) == 0 else {
                throw SystemError(call: "open (a filesystem is mounted here)", path: current.path, errno: .improperLink)
            }
            levels.append(Level(name: name, id: try current.fileID(), remaining: try current.visitEntries(body)))
        }
    }

    /// Another descriptor of this directory, with a position of its own.
    private func again() throws(SystemError) -> Directory {
        let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
        return Directory(descriptor: try system("openat", path) { linux_openat(descriptor, ".", flags, 0) }, path: path)
    }

    private struct Level {
        let name: [CChar]
        let id: FileID
        var remaining: [[CChar]]
    }

    private func fileID() throws(SystemError) -> FileID {
        var value = stat()
        try system("fstat", path) { fstat(descriptor, &value) }
        return FileID(device: UInt64(value.st_dev), inode: UInt64(value.st_ino))
    }

    /// - Returns: the names of the subdirectories.
    private func visitEntries(_ body: (FileID) -> Void) throws(SystemError) -> [[CChar]] {
        var directories: [[CChar]] = []
        for entry in try rawEntries() {
            var value = stat()
            if fstatat(descriptor, entry.name, &value, AT_SYMLINK_NOFOLLOW) != 0 {
                if Glibc.errno == ENOENT { continue }
                throw .last("fstatat", "\(path)/\(text(entry.name))")
            }
            body(FileID(device: UInt64(value.st_dev), inode: UInt64(value.st_ino)))
            if value.st_mode & S_IFMT == S_IFDIR { directories.append(entry.name) }
        }
        return directories
    }
}

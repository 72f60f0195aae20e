import CLinux
import Glibc
import Registry
import SystemPackage

/// An open directory. Everything below it is named relative to the descriptor, so that a path that is replaced
/// meanwhile leads nowhere else. Closed at the end of its life.
struct Directory: ~Copyable {
    let descriptor: CInt
    /// For messages only.
    let path: String

    /// Takes ownership of an open descriptor.
    init(descriptor: CInt, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    /// Opens an absolute path; a symbolic link as its last component is refused.
    init(_ path: String) throws(SystemError) {
        let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
        self.init(descriptor: try system("open", path) { linux_open(path, flags, 0) }, path: path)
    }

    deinit { close(descriptor) }

    private func describe(_ name: String) -> String { "\(path)/\(name)" }

    /// Opens a directory below this one, on the same mount, through no symbolic link and no `..`.
    func openBeneath(_ relative: String) throws(SystemError) -> Directory {
        try openBeneath(raw: relative.utf8CString.map(\.self))
    }

    /// Opens a directory below this one by a path that need not be UTF-8; see ``openBeneath(_:)``.
    ///
    /// See: man 2 openat2. Where the kernel or a seccomp filter has no openat2, each component is opened with
    /// O_NOFOLLOW and refused when it is the root of a mount.
    func openBeneath(raw relative: [CChar]) throws(SystemError) -> Directory {
        let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
        let path = describe(text(relative))
        var attempts = 0
        while true {
            let result = linux_openat2(descriptor, relative, UInt64(flags), 0, LINUX_RESOLVE_BENEATH_STRICT)
            if result >= 0 { return Directory(descriptor: result, path: path) }
            switch Glibc.errno {
            // A rename elsewhere in the tree made the kernel's check inconclusive. See: man 2 openat2 (EAGAIN)
            case EAGAIN, EINTR:
                attempts += 1
                if attempts > 100 { throw .last("openat2", path) }
            case ENOSYS, EPERM: return try openByComponent(relative)
            default: throw .last("openat2", path)
            }
        }
    }

    /// Opens each component in turn, for systems without openat2.
    func openByComponent(_ relative: [CChar]) throws(SystemError) -> Directory {
        let path = describe(text(relative))
        var current = try duplicate(descriptor, self.path)
        for component in relative.dropLast().split(
            separator: CChar(UInt8(ascii: "/")), omittingEmptySubsequences: false)
        {
            let parent = current
            defer { close(parent) }
            guard !component.isEmpty, ![".", ".."].contains(text(component + [0])) else {
                throw SystemError(call: "open", path: path, errno: .invalidArgument)
            }
            let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
            current = try system("openat", path) { linux_openat(parent, component + [0], flags, 0) }
            if linux_is_mount_root(current) != 0 {
                close(current)
                throw SystemError(call: "open", path: path, errno: .improperLink)
            }
        }
        return Directory(descriptor: current, path: path)
    }

    /// Opens a directory that stands directly in this one.
    func open(_ name: String) throws(SystemError) -> Directory { try open(raw: name.utf8CString.map(\.self)) }

    /// Opens a directory that stands directly in this one, by a name that need not be UTF-8.
    func open(raw name: [CChar]) throws(SystemError) -> Directory {
        let path = describe(text(name))
        let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
        return Directory(
            descriptor: try system("openat", path) { linux_openat(descriptor, name, flags, 0) }, path: path)
    }

    /// Makes a directory; one that exists is an error.
    func makeDirectory(_ name: String, mode: mode_t = 0o777) throws(SystemError) {
        try system("mkdirat", describe(name)) { mkdirat(descriptor, name, mode) }
    }

    /// Adds the owner's rwx bits to the mode of a directory, even of an unreadable one: O_PATH needs no permission, and
    /// /proc/self/fd leads to the same inode. The name is bytes, since it need not be UTF-8.
    /// See: man 2 open (O_PATH), man 5 proc (/proc/self/fd)
    func addOwnerPermissions(_ name: [CChar]) throws(SystemError) {
        let path = describe(text(name))
        let handle = try system("openat", path) {
            linux_openat(descriptor, name, O_PATH_FLAG | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC, 0)
        }
        defer { close(handle) }
        // What is mounted here is somebody's.
        guard linux_is_mount_root(handle) == 0 else {
            throw SystemError(call: "chmod (a filesystem is mounted here)", path: path, errno: .resourceBusy)
        }
        var value = stat()
        try system("fstat", path) { fstat(handle, &value) }
        guard value.st_mode & 0o700 != 0o700 else { return }
        try system("chmod", path) { chmod("/proc/self/fd/\(handle)", value.st_mode & 0o7777 | 0o700) }
    }

    /// Makes a directory unless it exists, and opens it.
    func openOrMake(_ name: String, mode: mode_t = 0o777) throws(SystemError) -> Directory {
        do { try makeDirectory(name, mode: mode) } catch { if error.errno != .fileExists { throw error } }
        return try open(name)
    }

    /// Device and inode of this directory.
    func identity() throws(SystemError) -> FileIdentity {
        var value = stat()
        try system("fstat", path) { fstat(descriptor, &value) }
        return FileIdentity(value, subvolume: linux_btrfs_id(descriptor))
    }

    /// Device and inode of an entry, not followed; nil when there is none.
    func identity(of name: String) throws(SystemError) -> FileIdentity? {
        var value = stat()
        do {
            try system("fstatat", describe(name)) { fstatat(descriptor, name, &value, AT_SYMLINK_NOFOLLOW) }
        } catch {
            if error.errno == .noSuchFileOrDirectory { return nil }
            throw error
        }
        let subvolume = linux_btrfs_id(descriptor)
        // Only a directory can be in another subvolume than this one.
        if subvolume != 0, value.st_mode & S_IFMT == S_IFDIR { return try open(name).identity() }
        return FileIdentity(value, subvolume: subvolume)
    }

    /// Whether an entry of any kind has this name.
    func contains(_ name: String) throws(SystemError) -> Bool { try identity(of: name) != nil }

    /// Moves an entry; fails when the new name exists. See: man 2 renameat2 (RENAME_NOREPLACE)
    func rename(_ name: String, to directory: borrowing Directory, as newName: String) throws(SystemError) {
        let target = directory.descriptor
        try system("renameat2", "\(describe(name)) -> \(directory.path)/\(newName)") {
            linux_rename_noreplace(descriptor, name, target, newName)
        }
    }

    /// The content of a small file; nil when there is none. A symbolic link is refused.
    func read(_ name: String, limit: Int = 1 << 20) throws(SystemError) -> String? {
        let file: CInt
        do {
            file = try system("openat", describe(name)) {
                linux_openat(descriptor, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0)
            }
        } catch {
            if error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory { return nil }
            throw error
        }
        defer { close(file) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while content.count <= limit {
            let count = Glibc.read(file, &chunk, chunk.count)
            if count < 0, Glibc.errno == EINTR { continue }
            if count < 0 { throw .last("read", describe(name)) }
            if count == 0 { return String(decoding: content, as: UTF8.self) }
            content.append(contentsOf: chunk[..<count])
        }
        throw SystemError(call: "read", path: describe(name), errno: .fileTooLarge)
    }

    /// What a symbolic link names, as bytes. See: man 2 readlinkat
    func link(_ name: String) throws(SystemError) -> [UInt8] {
        var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = target.withUnsafeMutableBytes { bytes in
            readlinkat(descriptor, name, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
        }
        guard count >= 0 else { throw .last("readlinkat", describe(name)) }
        return Array(target[..<count])
    }

    /// Writes a new file and, when asked, waits until it is on disk.
    func create(_ name: String, _ text: String, sync: Bool = false) throws(SystemError) {
        try create(name, Array(text.utf8), sync: sync)
    }

    /// Writes a new file of these bytes.
    func create(_ name: String, _ content: [UInt8], sync: Bool = false) throws(SystemError) {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = try system("openat", describe(name)) { linux_openat(descriptor, name, flags, 0o666) }
        defer { close(file) }
        try write(content[...], to: file, describe(name))
        if sync { try system("fsync", describe(name)) { fsync(file) } }
    }

    /// Copies a file into another directory: as a clone that shares the content where the filesystem can do that, byte
    /// by byte elsewhere.
    func copy(_ name: String, to target: borrowing Directory) throws(SystemError) {
        let source = try system("openat", describe(name)) {
            linux_openat(descriptor, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0)
        }
        defer { close(source) }
        let targetPath = target.describe(name)
        let parent = target.descriptor
        let file = try system("openat", targetPath) {
            linux_openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o666)
        }
        defer { close(file) }
        if linux_clone_file(file, source) == 0 { return }
        var chunk = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let count = Glibc.read(source, &chunk, chunk.count)
            if count < 0, Glibc.errno == EINTR { continue }
            if count < 0 { throw .last("read", describe(name)) }
            if count == 0 { return }
            try write(chunk[..<count], to: file, targetPath)
        }
    }

    private func write(_ content: ArraySlice<UInt8>, to file: CInt, _ path: String) throws(SystemError) {
        var rest = content
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0, Glibc.errno == EINTR { continue }
            if count < 0 { throw .last("write", path) }
            rest = rest.dropFirst(count)
        }
    }

    /// Inode, size and times of an entry, not followed.
    func fileVersion(_ name: String) throws(SystemError) -> FileVersion {
        var value = stat()
        try system("fstatat", describe(name)) { fstatat(descriptor, name, &value, AT_SYMLINK_NOFOLLOW) }
        return FileVersion(
            inode: UInt64(value.st_ino), size: Int64(value.st_size),
            modified: [value.st_mtim.tv_sec, value.st_mtim.tv_nsec],
            changed: [value.st_ctim.tv_sec, value.st_ctim.tv_nsec])
    }

    /// Replaces a file by one rename, so that a reader sees the old or the new content.
    func replace(_ name: String, _ text: String) throws(SystemError) {
        // Unique, since two engines may write the same file at once. Killed here, it leaves a file that nothing reads.
        let temporary = "\(name).wtengine-\(randomHex(8))"
        try create(temporary, text, sync: true)
        try system("renameat", describe(name)) { renameat(descriptor, temporary, descriptor, name) }
    }

    /// Removes a file; one that is not there is no error.
    func removeFile(_ name: String) throws(SystemError) {
        do { try system("unlinkat", describe(name)) { unlinkat(descriptor, name, 0) } } catch {
            if error.errno != .noSuchFileOrDirectory { throw error }
        }
    }

    /// Names and types (`DT_*`) of all entries but `.` and `..`; what is not UTF-8 in a name is replaced.
    func entries() throws(SystemError) -> [(name: String, type: UInt8)] {
        try rawEntries().map { (text($0.name), $0.type) }
    }
}

/// The absolute path with every symbolic link resolved; nil when it does not exist. See: man 3 realpath
package func realPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
}

/// The bytes of a file, by way of symbolic links as git follows them for its own files; nil when it cannot be read, or is
/// larger than the limit.
func contents(of path: String, limit: Int = .max) -> [UInt8]? {
    // A FIFO in this place is no reason to wait for a writer.
    let file = linux_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var value = stat()
    guard fstat(file, &value) == 0, value.st_mode & S_IFMT == S_IFREG, value.st_size <= limit else { return nil }
    var content: [UInt8] = []
    while content.count <= limit {
        var count = 0
        // One byte more than there should be, so that the end shows at once; files of /proc do not know their size.
        content += [UInt8](unsafeUninitializedCapacity: max(Int(value.st_size) - content.count + 1, 4096)) {
            count = read(file, $0.baseAddress!, $0.count)
            $1 = max(count, 0)
        }
        if count < 0, Glibc.errno == EINTR { continue }
        if count <= 0 { return count < 0 ? nil : content }
    }
    return nil
}

/// Whether `path` is `directory` or lies in it. Both absolute and normal.
package func isInside(_ path: String, _ directory: String) -> Bool {
    path == directory || path.hasPrefix(directory.hasSuffix("/") ? directory : directory + "/")
}

/// A descriptor of the same file that no child process inherits. See: man 2 fcntl (F_DUPFD_CLOEXEC)
func duplicate(_ descriptor: CInt, _ path: @autoclosure () -> String) throws(SystemError) -> CInt {
    try system("fcntl", path()) { fcntl(descriptor, F_DUPFD_CLOEXEC, 0) }
}

extension FileIdentity {
    /// - Parameter subvolume: 0 where the filesystem is not btrfs. There `st_dev` is given anew with each mount, and every
    ///   subvolume has a top directory with the same inode number.
    fileprivate init(_ value: stat, subvolume: UInt64) {
        self.init(device: subvolume == 0 ? UInt64(value.st_dev) : subvolume, inode: UInt64(value.st_ino))
    }
}

/// Tells a file from what it is after any change.
struct FileVersion: Codable, Hashable, Sendable {
    let inode: UInt64
    let size: Int64
    /// Seconds and nanoseconds.
    let modified: [Int]
    let changed: [Int]
}

import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Unlinks a directory tree by descriptors: no path is resolved twice, no symbolic link is followed, no mount is
/// entered, and the depth of the tree costs no stack.
///
/// Only for what has been renamed into a trash directory of ours: it changes the mode of read-only directories.
enum TreeDeletion {
    /// Deletes `name` in `parent`.
    ///
    /// Another process may delete the same tree meanwhile: what is gone already is no error.
    ///
    /// Works downwards one level at a time: a subdirectory that is not empty is first moved up beside the one that is
    /// being emptied, under a number. So each thread has at most three descriptors open, and a tree that is deeper than
    /// PATH_MAX or the descriptor limit goes as well. The directories of a level are independent of each other.
    /// - Parameters:
    ///   - threads: how many work on a level; more than one are of the background.
    ///   - giveWay: called before each directory.
    /// - Throws: ``SystemError``; what is left can be deleted by another call.
    static func delete(
        _ name: String, in parent: borrowing Directory, threads: Int = 1,
        giveWay: @escaping @Sendable () -> Void = {}
    ) throws(SystemError) {
        if try Subvolume.destroy(name, in: parent) { return }
        // What a deletion that was killed had moved up already.
        var names = try parent.entries().map(\.name).filter { isSibling($0, of: name) }
        do {
            try system("unlinkat", "\(parent.path)/\(name)") { unlinkat(parent.descriptor, name, 0) }
            if names.isEmpty { return }
        } catch {
            switch error.errno {
            case .noSuchFileOrDirectory: if names.isEmpty { return }
            // A read-only mount refuses before it looks whether there is anything to remove.
            case .readOnlyFileSystem:
                guard try !parent.contains(name), names.isEmpty else { throw error }
                return
            case .isDirectory, .notPermitted: names.append(name)
            default: throw error
            }
        }
        let device = try parent.identity().device
        let counter = Counter()
        while !names.isEmpty {
            let level = Level(
                names: names, top: name, parent: parent.descriptor, path: parent.path, device: device, counter: counter,
                giveWay: giveWay)
            // A thread for a directory or two costs more than it saves, and a deep tree has many levels.
            if threads > 1, names.count > 4 {
                Background.perform(min(threads, names.count)) { level.work() }
            } else {
                level.work()
            }
            names = try level.rest()
        }
    }

    private final class Counter: Sendable {
        private let last = Atomic<Int>(0)
        func next() -> Int { last.add(1, ordering: .relaxed).newValue }
    }

    /// Directories that are emptied side by side.
    private final class Level: Sendable {
        private let names: [String]
        /// The tree's own name, from which numbered ones are made.
        private let top: String
        /// Open for as long as the call to `delete` lasts.
        private let parent: CInt
        private let path: String
        private let device: UInt64
        private let counter: Counter
        private let giveWay: @Sendable () -> Void
        private let next = Atomic<Int>(0)
        private let result = Mutex<(rest: [String], error: SystemError?)>(([], nil))

        init(
            names: [String], top: String, parent: CInt, path: String, device: UInt64, counter: Counter,
            giveWay: @escaping @Sendable () -> Void
        ) {
            self.names = names
            self.top = top
            self.parent = parent
            self.path = path
            self.device = device
            self.counter = counter
            self.giveWay = giveWay
        }

        /// What is left for the next level.
        func rest() throws(SystemError) -> [String] {
            let (rest, error) = result.withLock { $0 }
            if let error { throw error }
            return rest
        }

        /// Empties directories until there are no more; for any number of threads at once.
        func work() {
            var rest: [String] = []
            var failure: SystemError?
            do throws(SystemError) {
                let parent = try Directory(again: parent, path: path)
                while true {
                    let position = next.add(1, ordering: .relaxed).oldValue
                    if position >= names.count { break }
                    giveWay()
                    try empty(names[position], in: parent, &rest)
                }
            } catch {
                // The others stop as well.
                next.store(names.count, ordering: .relaxed)
                failure = error
            }
            result.withLock { result in
                result.rest += rest
                result.error = result.error ?? failure
            }
        }

        /// Unlinks what is in a directory, moves directories that are not empty up, and unlinks it.
        private func empty(
            _ name: String, in parent: borrowing Directory, _ rest: inout [String]
        ) throws(SystemError) {
            guard let directory = try openUnlessGone(name, in: parent) else { return }
            // A subvolume of btrfs has a device number of its own, but is no mount.
            guard linux_is_mount_root(directory.descriptor) == 0,
                try directory.identity().device == device || linux_btrfs_id(directory.descriptor) != 0
            else {
                throw SystemError(
                    call: "delete (another filesystem is mounted here)", path: directory.path, errno: .resourceBusy)
            }
            for entry in try directory.rawEntries().map(\.name) {
                guard let child = try remove(entry, in: directory) else { continue }
                if try Subvolume.destroy(text(child), in: directory) { continue }
                while true {
                    let sibling = "\(top).\(counter.next())"
                    if linux_rename_noreplace(directory.descriptor, child, parent.descriptor, sibling) == 0 {
                        rest.append(sibling)
                        break
                    }
                    if Glibc.errno == ENOENT { break }
                    if Glibc.errno == EXDEV {
                        // A subvolume that could not be destroyed: what is in it cannot be moved out of it.
                        try TreeDeletion.deleteWithin(child, as: sibling, in: directory)
                        break
                    }
                    if Glibc.errno != EEXIST { throw .last("renameat2", "\(directory.path)/\(text(child))") }
                }
            }
            if unlinkat(parent.descriptor, name, AT_REMOVEDIR) == 0 || Glibc.errno == ENOENT { return }
            // Something came into it meanwhile.
            guard Glibc.errno == ENOTEMPTY || Glibc.errno == EEXIST else { throw .last("unlinkat", directory.path) }
            rest.append(name)
        }
    }

    /// Deletes a directory where it is, under a name of ours, since its own need not be UTF-8.
    private static func deleteWithin(
        _ child: [CChar], as name: String, in directory: borrowing Directory
    ) throws(SystemError) {
        try system("renameat2", "\(directory.path)/\(text(child))") {
            linux_rename_noreplace(directory.descriptor, child, directory.descriptor, name)
        }
        try delete(name, in: directory)
    }

    /// `<name>.<number>`.
    private static func isSibling(_ entry: String, of name: String) -> Bool {
        entry.hasPrefix(name + ".") && !entry.dropFirst(name.count + 1).isEmpty
            && entry.dropFirst(name.count + 1).allSatisfy(\.isNumber)
    }

    private static func openUnlessGone(
        _ name: String, in parent: borrowing Directory
    ) throws(SystemError) -> Directory? {
        do { return try openWritable(name, in: parent) } catch {
            if error.errno == .noSuchFileOrDirectory { return nil }
            throw error
        }
    }

    /// Unlinks an entry; returns it when it is a directory that is not empty.
    private static func remove(_ entry: [CChar], in directory: borrowing Directory) throws(SystemError) -> [CChar]? {
        if unlinkat(directory.descriptor, entry, 0) == 0 || Glibc.errno == ENOENT { return nil }
        // Linux says EISDIR for a directory, POSIX EPERM; EPERM is also an immutable file. See: man 2 unlink
        guard Glibc.errno == EISDIR || Glibc.errno == EPERM else {
            throw .last("unlinkat", "\(directory.path)/\(text(entry))")
        }
        let first = Glibc.errno
        if unlinkat(directory.descriptor, entry, AT_REMOVEDIR) == 0 || Glibc.errno == ENOENT { return nil }
        if Glibc.errno == ENOTDIR { Glibc.errno = first }
        guard Glibc.errno == ENOTEMPTY || Glibc.errno == EEXIST else {
            throw .last("unlinkat", "\(directory.path)/\(text(entry))")
        }
        // A directory without the owner's write bit cannot be moved to another parent: its `..` changes.
        var value = stat()
        if fstatat(directory.descriptor, entry, &value, AT_SYMLINK_NOFOLLOW) == 0, value.st_mode & 0o700 != 0o700 {
            try directory.giveRights(entry)
        }
        return entry
    }

    /// Opens a directory, and gives its owner all rights when it has them not: a Go module cache is 0555.
    private static func openWritable(
        _ name: String, in parent: borrowing Directory
    ) throws(SystemError) -> Directory {
        do {
            let directory = try parent.open(name)
            var value = stat()
            if fstat(directory.descriptor, &value) == 0, value.st_mode & 0o700 != 0o700 {
                try system("fchmod", directory.path) { fchmod(directory.descriptor, 0o700) }
            }
            return directory
        } catch {
            guard error.errno == .permissionDenied else { throw error }
            try parent.giveRights(name.utf8CString.map(\.self))
            return try parent.open(name)
        }
    }
}

/// `O_PATH`, which Glibc's module does not export. See: linux/include/uapi/asm-generic/fcntl.h
let O_PATH_FLAG: CInt = 0o10000000

extension Directory {
    /// Opens a directory once more by a descriptor of it, for another thread.
    fileprivate init(again descriptor: CInt, path: String) throws(SystemError) {
        let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
        self.descriptor = try system("openat", path) { linux_openat(descriptor, ".", flags, 0) }
        self.path = path
    }

    /// Names of all entries but `.` and `..` as bytes, since names need not be UTF-8, with their types (`DT_*`).
    func rawEntries() throws(SystemError) -> [(name: [CChar], type: UInt8)] {
        let copy = try system("openat", path) { linux_openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) }
        guard let stream = fdopendir(copy) else {
            close(copy)
            throw .last("fdopendir", path)
        }
        defer { closedir(stream) }
        var result: [([CChar], UInt8)] = []
        while true {
            Glibc.errno = 0
            guard let entry = readdir(stream) else {
                if Glibc.errno != 0 { throw .last("readdir", path) }
                return result
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { base in
                    Array(UnsafeBufferPointer(start: base, count: strlen(base) + 1))
                }
            }
            if strcmp(name, ".") != 0, strcmp(name, "..") != 0 { result.append((name, entry.pointee.d_type)) }
        }
    }
}

extension Directory {
    /// Gives each name but `.` and `..`, and its type (`DT_*`), without a copy of any. To be called once: it moves the
    /// position of the descriptor. Names that come or go meanwhile may be missed. See: man 2 getdents64
    func forEachName(_ body: (UnsafePointer<CChar>, UInt8) -> Void) throws(SystemError) {
        let failed = withUnsafeTemporaryAllocation(byteCount: 1 << 15, alignment: 8) { buffer in
            while true {
                let size = linux_getdents64(descriptor, buffer.baseAddress!, buffer.count)
                if size <= 0 { return size < 0 }
                var offset = 0
                while offset < size {
                    // `ino` 8 bytes, `off` 8, `reclen` 2, `type` 1, name.
                    let record = UnsafeRawPointer(buffer.baseAddress!) + offset
                    offset += Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
                    let name = (record + 19).assumingMemoryBound(to: CChar.self)
                    if strcmp(name, ".") == 0 || strcmp(name, "..") == 0 { continue }
                    body(name, record.load(fromByteOffset: 18, as: UInt8.self))
                }
            }
        }
        if failed { throw .last("getdents64", path) }
    }
}

/// A name of ``Directory/rawEntries()`` for a message.
func text(_ name: [CChar]) -> String { name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) } }

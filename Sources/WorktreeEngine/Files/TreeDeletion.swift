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
    /// Directories are emptied side by side, each with what is below it. A subdirectory that lies too deep, or that a
    /// thread with nothing else to do may empty, is moved up beside those, under a number, and emptied with the next ones.
    /// So a thread has few descriptors open, and a tree that is deeper than PATH_MAX or the descriptor limit goes as well.
    /// - Parameters:
    ///   - threads: how many work side by side; more than one are of the background.
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
        var value = stat()
        try system("fstat", parent.path) { fstat(parent.descriptor, &value) }
        let counter = Counter()
        while !names.isEmpty {
            let level = Level(
                names: names, top: name, parent: parent.descriptor, path: parent.path, device: value.st_dev,
                threads: threads, counter: counter, giveWay: giveWay)
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
        private let device: dev_t
        private let isBtrfs: Bool
        private let threads: Int
        private let counter: Counter
        private let giveWay: @Sendable () -> Void
        private let next = Atomic<Int>(0)
        private let result = Mutex<(rest: [String], error: SystemError?)>(([], nil))
        /// How many directories a thread enters, each below the last. It has a descriptor open for each.
        private static let deepest = 8

        init(
            names: [String], top: String, parent: CInt, path: String, device: dev_t, threads: Int, counter: Counter,
            giveWay: @escaping @Sendable () -> Void
        ) {
            self.names = names
            self.top = top
            self.parent = parent
            self.path = path
            self.device = device
            isBtrfs = linux_btrfs_id(parent) != 0
            self.threads = threads
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
                    let name = names[position]
                    // One that something came into meanwhile is emptied again.
                    if try !empty(name.utf8CString.map(\.self), in: parent, depth: 1, &rest) { rest.append(name) }
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

        /// Whether the thread enters a subdirectory itself: not too deep, and as long as the others have enough to do.
        private func mayEnter(_ depth: Int) -> Bool {
            depth < Self.deepest && (threads == 1 || next.load(ordering: .relaxed) < names.count)
        }

        /// Unlinks a directory and what is in it, as far as it is not moved up.
        /// - Returns: false when it is not empty in the end.
        private func empty(
            _ name: [CChar], in parent: borrowing Directory, depth: Int, _ rest: inout [String]
        ) throws(SystemError) -> Bool {
            giveWay()
            guard let directory = try openUnlessGone(name, in: parent) else { return true }
            try makeWritable(directory)
            for child in try TreeDeletion.removeFiles(directory) {
                if isBtrfs, try Subvolume.destroy(text(child), in: directory) { continue }
                do throws(SystemError) {
                    if mayEnter(depth), try empty(child, in: directory, depth: depth + 1, &rest) { continue }
                    try moveUp(child, from: directory, &rest)
                } catch {
                    // One of another owner can be neither opened nor moved, but removed, if it is empty.
                    guard error.errno == .permissionDenied || error.errno == .notPermitted,
                        unlinkat(directory.descriptor, child, AT_REMOVEDIR) == 0 || Glibc.errno == ENOENT
                    else { throw error }
                }
            }
            if unlinkat(parent.descriptor, name, AT_REMOVEDIR) == 0 || Glibc.errno == ENOENT { return true }
            guard Glibc.errno == ENOTEMPTY || Glibc.errno == EEXIST else { throw .last("unlinkat", directory.path) }
            return false
        }

        private func openUnlessGone(
            _ name: [CChar], in parent: borrowing Directory
        ) throws(SystemError) -> Directory? {
            do throws(SystemError) {
                do { return try parent.open(raw: name) } catch {
                    guard error.errno == .permissionDenied else { throw error }
                    try parent.addOwnerPermissions(name)
                    return try parent.open(raw: name)
                }
            } catch {
                if error.errno == .noSuchFileOrDirectory { return nil }
                throw error
            }
        }

        /// Gives the owner all rights when he has them not: a Go module cache is 0555.
        /// - Throws: for the root of a mount, which is left as it is.
        private func makeWritable(_ directory: borrowing Directory) throws(SystemError) {
            var value = stat()
            try system("fstat", directory.path) { fstat(directory.descriptor, &value) }
            // A subvolume of btrfs has a device number of its own, but is no mount.
            guard linux_is_mount_root(directory.descriptor) == 0,
                value.st_dev == device || isBtrfs && linux_btrfs_id(directory.descriptor) != 0
            else {
                throw SystemError(
                    call: "delete (another filesystem is mounted here)", path: directory.path, errno: .resourceBusy)
            }
            if value.st_mode & 0o700 != 0o700 {
                try system("fchmod", directory.path) { fchmod(directory.descriptor, 0o700) }
            }
        }

        private func moveUp(
            _ child: [CChar], from directory: borrowing Directory, _ rest: inout [String]
        ) throws(SystemError) {
            do { try directory.addPermissionsToMove(child) } catch {
                if error.errno == .noSuchFileOrDirectory { return }
                throw error
            }
            while true {
                let sibling = "\(top).\(counter.next())"
                if linux_rename_noreplace(directory.descriptor, child, parent, sibling) == 0 {
                    rest.append(sibling)
                    return
                }
                switch Glibc.errno {
                case EEXIST: continue
                case ENOENT: return
                // A subvolume that could not be destroyed: what is in it cannot be moved out of it.
                case EXDEV: return try deleteWithin(child, in: directory)
                default: throw .last("renameat2", "\(directory.path)/\(text(child))")
                }
            }
        }

        /// Deletes a directory where it is, under a name of ours, since its own need not be UTF-8.
        private func deleteWithin(_ child: [CChar], in directory: borrowing Directory) throws(SystemError) {
            while true {
                let name = "\(top).\(counter.next())"
                if linux_rename_noreplace(directory.descriptor, child, directory.descriptor, name) == 0 {
                    return try TreeDeletion.delete(name, in: directory, giveWay: giveWay)
                }
                if Glibc.errno == ENOENT { return }
                // Also of a deletion that was killed here.
                if Glibc.errno != EEXIST { throw .last("renameat2", "\(directory.path)/\(text(child))") }
            }
        }
    }

    /// Unlinks what is in a directory, but for directories.
    /// - Returns: the directories that are left.
    private static func removeFiles(_ directory: borrowing Directory) throws(SystemError) -> [[CChar]] {
        var left: [[CChar]] = []
        var failure: SystemError?
        let descriptor = directory.descriptor
        // What is unlinked while the rest is read is no trouble: a name that was missed keeps the directory from going,
        // and that is seen. See: man 3 readdir
        try directory.forEachName { name, type in
            if failure != nil { return }
            if type != UInt8(DT_DIR) {
                if unlinkat(descriptor, name, 0) == 0 || Glibc.errno == ENOENT { return }
                let first = Glibc.errno
                // Linux says EISDIR for a directory, POSIX EPERM; EPERM is also an immutable file. See: man 2 unlink
                var value = stat()
                guard first == EISDIR || first == EPERM,
                    fstatat(descriptor, name, &value, AT_SYMLINK_NOFOLLOW) == 0, value.st_mode & S_IFMT == S_IFDIR
                else {
                    failure = SystemError(
                        call: "unlinkat", path: "\(directory.path)/\(String(cString: name))",
                        errno: Errno(rawValue: first))
                    return
                }
            }
            left.append(Array(UnsafeBufferPointer(start: name, count: strlen(name) + 1)))
        }
        if let failure { throw failure }
        return left
    }

    /// `<name>.<number>`.
    private static func isSibling(_ entry: String, of name: String) -> Bool {
        entry.hasPrefix(name + ".") && !entry.dropFirst(name.count + 1).isEmpty
            && entry.dropFirst(name.count + 1).allSatisfy(\.isNumber)
    }
}

/// `O_PATH`, which Glibc's module does not export. See: linux/include/uapi/asm-generic/fcntl.h
let O_PATH_FLAG: CInt = 0o10000000

extension Directory {
    /// A directory without the owner's write bit cannot be moved to another parent: its `..` changes.
    fileprivate func addPermissionsToMove(_ name: [CChar]) throws(SystemError) {
        var value = stat()
        if fstatat(descriptor, name, &value, AT_SYMLINK_NOFOLLOW) == 0, value.st_mode & 0o700 != 0o700 {
            try addOwnerPermissions(name)
        }
    }

    /// Opens a directory once more by a descriptor of it, for another thread.
    fileprivate init(again descriptor: CInt, path: String) throws(SystemError) {
        let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
        self.descriptor = try system("openat", path) { linux_openat(descriptor, ".", flags, 0) }
        self.path = path
    }
}

import CLinux
import Glibc
import Synchronization
import SystemPackage

/// The places whose users are looked for, and how to tell whether an open file lies in one of them.
///
/// The kernel names an open file by a path, and the same directory has another path by every other mount. So a file is
/// compared in the first of these ways that says something:
///
/// 1. by its path, where it was opened by the same mount as the place;
/// 2. by its place in the filesystem, where the mount table of its process has the mount;
/// 3. by device and inode, with all files in the place. That takes a walk of the place, but needs no mount table: that of
///    a process in a chroot leaves out what is mounted outside, and no table has a mount that was detached.
final class Places: Sendable {
    struct Place {
        let path: [UInt8]
        let file: linux_mounted_file
        /// Nil when the mount table of this process does not have its mount.
        let location: MountTable.Location?
        /// Subvolumes have device numbers of their own there, so that the number does not tell filesystems apart.
        let isBtrfs: Bool
    }

    fileprivate let places: [Place]
    private let ownNamespace: [UInt8]
    private let views: Mutex<[[UInt8]: ProcessView]>
    private let contents = Mutex<Set<FileID>?>(nil)

    /// - Parameter paths: absolute and real. One where nothing is has no users but by its path.
    /// - Throws: ``SystemError`` when a place cannot be looked at.
    init(_ paths: [String]) throws(SystemError) {
        let table = MountTable(of: "self")
        places = try paths.map { path throws(SystemError) in
            var file = linux_mounted_file()
            do throws(SystemError) {
                try system("statx", path) { linux_mounted_file(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &file) }
            } catch { if error.errno != .noSuchFileOrDirectory { throw error } }
            return Place(
                path: Array(path.utf8), file: file, location: table?.location(of: path.utf8, mount: file.mount),
                isBtrfs: isOnBtrfs(path))
        }
        ownNamespace = withLinkTarget(AT_FDCWD, "/proc/self/ns/mnt") { Array($0) }
        views = Mutex([ownNamespace: ProcessView(table, places)])
    }

    /// How to compare what a process has open.
    /// - Parameter path: of the process below /proc.
    func view(of path: String, _ process: borrowing Directory) -> ProcessComparison {
        let namespace = withLinkTarget(process.descriptor, "ns/mnt") { Array($0) }
        if let known = views.withLock({ $0[namespace] }) { return ProcessComparison(places: self, view: known) }
        // Paths in another namespace are told from its root, but the table of a process in a chroot from its own.
        guard !namespace.isEmpty, withLinkTarget(process.descriptor, "root", { $0.elementsEqual("/".utf8) }),
            let table = MountTable(of: path)
        else { return ProcessComparison(places: self, view: ProcessView(nil, places)) }
        let made = ProcessView(table, places)
        views.withLock { $0[namespace] = made }
        return ProcessComparison(places: self, view: made)
    }

    /// Whether one of the places has this file, by any name.
    fileprivate func contain(_ file: FileID) throws(SystemError) -> Bool { try allFiles().contains(file) }

    /// The same for what /proc/<pid>/maps says: on btrfs that is the device of the filesystem, not of the subvolume.
    fileprivate func contain(mapped file: FileID) throws(SystemError) -> Bool {
        let files = try allFiles()
        return files.contains(file) || places.contains(where: \.isBtrfs) && files.contains { $0.inode == file.inode }
    }

    private func allFiles() throws(SystemError) -> Set<FileID> {
        try contents.withLock { contents throws(SystemError) in
            if let contents { return contents }
            var files: Set<FileID> = []
            for place in places where place.file.inode != 0 {
                files.insert(FileID(device: place.file.device, inode: place.file.inode))
                do throws(SystemError) {
                    let top = try Directory(String(decoding: place.path, as: UTF8.self))
                    try top.forEachFileBelow { files.insert($0) }
                } catch { if error.errno != .noSuchFileOrDirectory, error.errno != .notDirectory { throw error } }
            }
            contents = files
            return files
        }
    }
}

/// What the mount table of a process says of the places.
private struct ProcessView: Sendable {
    /// Nil when it cannot be read, or does not fit the paths that the kernel tells.
    let table: MountTable?
    /// Every path that leads into a place.
    let paths: [[UInt8]]
    /// Whether those are all.
    let isComplete: Bool

    init(_ table: MountTable?, _ places: [Places.Place]) {
        self.table = table
        let others = places.compactMap(\.location).flatMap { table?.paths(to: $0) ?? [] }
        paths = Array(Set(places.map(\.path) + others))
        isComplete = table != nil && places.allSatisfy { $0.location != nil || $0.file.inode == 0 }
    }
}

/// Compares what one process has open with the places.
struct ProcessComparison {
    private let places: Places
    private let view: ProcessView

    fileprivate init(places: Places, view: ProcessView) {
        self.places = places
        self.view = view
    }

    /// The first thing of a process that lies in one of the places.
    /// - Throws: ``SystemError`` when a place cannot be walked, where that is needed to decide.
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

    /// A look at a machine takes thousands of these, so bytes are compared in place.
    private func isInside(_ directory: CInt, _ name: UnsafePointer<CChar>) throws(SystemError) -> Bool {
        try withLinkTarget(directory, name) { link throws(SystemError) in
            if view.paths.contains(where: { isBelow($0, link) }) { return true }
            // What is no path (`socket:[1]`, `pipe:[2]`) lies nowhere.
            guard link.first == UInt8(ascii: "/") else { return false }
            var file = linux_mounted_file()
            // Closed meanwhile, or on a filesystem that does not answer, which is none of the places'.
            guard linux_mounted_file(directory, name, 0, &file) == 0 else { return false }
            return try isInside(file, link)
        }
    }

    private func isInside(_ file: linux_mounted_file, _ path: UnsafeRawBufferPointer) throws(SystemError) -> Bool {
        for place in places.places where place.isBtrfs || place.file.device == file.device {
            // By the same mount its path would have told.
            if file.mount != 0, place.file.mount == file.mount { continue }
            if let location = place.location, let own = view.table?.location(of: path, mount: file.mount) {
                if own.isInside(location) { return true }
            } else if try places.contain(FileID(device: file.device, inode: file.inode)) {
                return true
            }
        }
        return false
    }

    /// A line ends in the path of the file, after blanks. See: man 5 proc (/proc/pid/maps)
    private func hasMapping(_ process: borrowing Directory) throws(SystemError) -> Bool {
        guard let table = contents(of: "\(process.path)/maps") else { return false }
        let hasPath = view.paths.contains { path in
            // Nobody else's lines begin with it, so most tables are searched once and that is all.
            var rest = table[...]
            while let start = find(path, in: rest) {
                let end = start + path.count
                let isWhole = end == table.count || [UInt8(ascii: "/"), UInt8(ascii: "\n"), 32].contains(table[end])
                if isWhole, start > 0, table[start - 1] == 32 { return true }
                rest = table[end...]
            }
            return false
        }
        if hasPath || view.isComplete { return hasPath }
        for file in mappedFiles(table) where try places.contain(mapped: file) { return true }
        return false
    }

    /// `<addresses> <mode> <offset> <device> <inode> <path>`, with the device as `major:minor` in hexadecimal digits.
    private func mappedFiles(_ table: [UInt8]) -> Set<FileID> {
        var files: Set<FileID> = []
        for line in table.split(separator: UInt8(ascii: "\n")) {
            let fields = line.split(separator: 32, maxSplits: 5).map { String(decoding: $0, as: UTF8.self) }
            guard fields.count > 4, let inode = UInt64(fields[4]), inode != 0 else { continue }
            let device = fields[3].split(separator: ":").compactMap { UInt32($0, radix: 16) }
            if device.count == 2 { files.insert(FileID(device: linux_device(device[0], device[1]), inode: inode)) }
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

/// Gives what a link leads to; nothing when it cannot be read.
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

import CLinux
import Glibc
import SystemPackage

/// The paths by which a process, or all processes of a mount namespace, reach the directories.
struct NamespacePaths: Sendable {
    /// Nil when it cannot be read.
    let table: MountTable?
    /// The root directory of a process in a chroot; else empty. The kernel reports paths of another mount namespace relative to
    /// the root of that namespace, but the mount table of a process relative to the root directory of the process.
    let root: [UInt8]
    /// Every path of the directories in this process's own namespace. In another one a path may be that of something else.
    let paths: [[UInt8]]
    /// The namespace is that of this process.
    let isOwn: Bool

    /// Those of this process's own namespace.
    init(own table: MountTable?, _ targets: [DirectoryMatcher.Target]) {
        self.table = table
        root = []
        isOwn = true
        let others = targets.compactMap(\.location).flatMap { table?.paths(to: $0) ?? [] }
        paths = Array(Set(targets.map(\.path) + others))
    }

    /// Those of another namespace.
    init(_ table: MountTable?, root: [UInt8] = []) {
        let root = root == [UInt8(ascii: "/")] ? [] : root
        self.table = table
        self.root = root
        isOwn = false
        paths = []
    }

    /// The location of a file that the kernel reports by a path; nil when the table does not tell.
    func location(of path: some Collection<UInt8>, mount: UInt64) -> MountTable.Location? {
        guard path.starts(with: root) else { return nil }
        let rest = path.dropFirst(root.count)
        return table?.location(of: rest.isEmpty ? [UInt8(ascii: "/")] : Array(rest), mount: mount)
    }
}

/// Compares what one process has open with the directories.
struct ProcessComparison {
    private let matcher: DirectoryMatcher
    private let paths: NamespacePaths

    init(matcher: DirectoryMatcher, paths: NamespacePaths) {
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
            // A path that is longer than PATH_MAX cannot be read, but leads to a file all the same.
            let isTooLong = link.isEmpty && Glibc.errno == ENAMETOOLONG
            if paths.paths.contains(where: { isBelow($0, link) }) { return true }
            // Sockets and pipes have no path: `socket:[1]`, `pipe:[2]`.
            guard link.first == UInt8(ascii: "/") || isTooLong else { return false }
            var file = linux_mounted_file()
            // Closed meanwhile, or on a filesystem that does not respond. No workdir that is cleaned up is on such a filesystem.
            guard linux_stat_mount(directory, name, 0, &file) == 0 else { return false }
            guard isTooLong else { return try isInside(file, link) }
            if let isBelow = isBelowTarget(directory, name, file) { return isBelow }
            return try isInside(withoutPath: file)
        }
    }

    /// Climbs from a directory to the root directory.
    /// - Returns: nil when that does not tell: for a file, on another mount, and where a directory may not be searched.
    private func isBelowTarget(_ directory: CInt, _ name: UnsafePointer<CChar>, _ file: linux_mounted_file) -> Bool? {
        guard file.mount != 0, matcher.targets.allSatisfy({ $0.file.mount == file.mount }) else { return nil }
        let flags = O_PATH_FLAG | O_DIRECTORY | O_CLOEXEC
        var current = linux_openat(directory, name, flags, 0)
        guard current >= 0 else { return nil }
        defer { close(current) }
        var id = FileID(device: file.device, inode: file.inode)
        while true {
            if matcher.targets.contains(where: { $0.file.device == id.device && $0.file.inode == id.inode }) {
                return true
            }
            let parent = linux_openat(current, "..", flags, 0)
            guard parent >= 0 else { return nil }
            close(current)
            current = parent
            var value = stat()
            guard fstat(current, &value) == 0 else { return nil }
            let above = FileID(device: UInt64(value.st_dev), inode: UInt64(value.st_ino))
            // The root directory is its own parent.
            if above == id { return false }
            id = above
        }
    }

    private func isInside(_ file: linux_mounted_file, _ path: some Collection<UInt8>) throws(SystemError) -> Bool {
        for target in matcher.targets where target.hasManyDevices || target.file.device == file.device {
            // The same mount: the comparison of paths has decided.
            if file.mount != 0, target.file.mount == file.mount { continue }
            let own = paths.location(of: path, mount: file.mount)
            if let own, let location = target.location {
                if own.isInside(location) { return true }
                continue
            }
            // What was opened before a chroot or in the namespace of the host, such as the file of a standard output.
            if let end = target.location?.path ?? (target.isOnRootMount ? target.path : nil),
                let place = own ?? matcher.hostTable?.location(of: path, mount: file.mount), !place.mayBeInside(end)
            {
                continue
            }
            if try isInside(withoutPath: file) { return true }
        }
        return false
    }

    private func isInside(withoutPath file: linux_mounted_file) throws(SystemError) -> Bool {
        // A deleted file is in no directory.
        guard file.links > 0, matcher.targets.contains(where: { $0.hasManyDevices || $0.file.device == file.device })
        else { return false }
        return try matcher.contains(FileID(device: file.device, inode: file.inode))
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
        if hasPath { return true }
        for (file, path) in mappedFiles(table) where try isInside(mapped: file, path, process.path) { return true }
        return false
    }

    private func isInside(mapped file: FileID, _ path: [UInt8], _ process: String) throws(SystemError) -> Bool {
        guard matcher.targets.contains(where: { $0.hasManyDevices || $0.file.device == file.device }) else {
            return false
        }
        let end = String(decoding: path.dropFirst(paths.root.count), as: UTF8.self)
        let name = paths.isOwn ? end : "\(process)/root\(end)"
        return try matcher.remembering(name, file) { () throws(SystemError) in
            // The path leads to the file that is mapped, so it says which mount that is on.
            var found = linux_mounted_file()
            if paths.isOwn || paths.table != nil, path.starts(with: paths.root),
                linux_stat_mount(AT_FDCWD, name, 0, &found) == 0, found.inode == file.inode
            {
                return try isInside(found, path)
            }
            // A deleted file is in no directory. See: man 5 proc_pid_maps
            if path.reversed().starts(with: " (deleted)".utf8.reversed()) { return false }
            return try matcher.containsMapped(file)
        }
    }

    /// `<addresses> <mode> <offset> <device> <inode> <path>`, with the device as `major:minor` in hexadecimal digits.
    private func mappedFiles(_ table: [UInt8]) -> [FileID: [UInt8]] {
        let blank = UInt8(ascii: " ")
        var files: [FileID: [UInt8]] = [:]
        var last: ArraySlice<UInt8> = []
        for line in table.split(separator: UInt8(ascii: "\n")) {
            // Sockets, anonymous memory and the stack have no path. A file has several lines, one after the other.
            guard let slash = line.firstIndex(of: UInt8(ascii: "/")), line[slash...] != last else { continue }
            last = line[slash...]
            let fields = line[..<slash].split(separator: blank).map { String(decoding: $0, as: UTF8.self) }
            guard fields.count > 4, let inode = UInt64(fields[4]), inode != 0 else { continue }
            let device = fields[3].split(separator: ":").compactMap { UInt32($0, radix: 16) }
            guard device.count == 2 else { continue }
            files[FileID(device: linux_device(device[0], device[1]), inode: inode)] = Array(last)
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

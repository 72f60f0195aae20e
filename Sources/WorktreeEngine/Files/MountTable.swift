import CLinux
import Glibc

/// The mounts that a process sees. See: man 5 proc (/proc/pid/mountinfo)
struct MountTable {
    /// A place in a filesystem, whichever way it is mounted.
    struct Location {
        /// `major:minor` of the filesystem.
        let device: [UInt8]
        /// From the root of the filesystem.
        let path: [UInt8]

        /// Returns whether this equals `other` or is below it.
        func isInside(_ other: Location) -> Bool {
            device == other.device && MountTable.suffix(below: other.path, of: path) != nil
        }

        /// Returns false when this cannot be a path, or below a path, of which only the end is known.
        /// - Parameter end: begins with a slash.
        func mayBeInside(_ end: [UInt8]) -> Bool {
            path.withUnsafeBytes { path in
                guard let start = path.baseAddress else { return false }
                var from = 0
                while let found = memmem(start + from, path.count - from, end, end.count) {
                    let after = UnsafeRawPointer(found) - start + end.count
                    if after == path.count || path[after] == UInt8(ascii: "/") { return true }
                    from = after
                }
                return false
            }
        }
    }

    private struct Mount {
        let device: [UInt8]
        /// What of the filesystem is mounted.
        let root: [UInt8]
        let point: [UInt8]
    }

    private let mounts: [UInt64: Mount]

    /// - Parameter process: a pid, `self`, or a thread as `<pid>/task/<tid>`.
    /// - Returns: nil when it has ended, or its table cannot be read.
    init?(of process: String) {
        guard let table = contents(of: "/proc/\(process)/mountinfo") else { return nil }
        var mounts: [UInt64: Mount] = [:]
        for line in table.split(separator: UInt8(ascii: "\n")) {
            // `<id> <parent> <major:minor> <root> <mount point> ...`
            let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 5)
            guard fields.count > 4, let id = UInt64(String(decoding: fields[0], as: UTF8.self)) else { return nil }
            mounts[id] = Mount(
                device: Array(fields[2]), root: Self.unescaped(fields[3]), point: Self.unescaped(fields[4]))
        }
        // Every process has a root directory on some mount, but a chroot may hide it. What is mounted over the file, such as
        // /dev/null, does not even have the mount of /proc.
        if mounts.isEmpty { return nil }
        self.mounts = mounts
    }

    /// A mount point below a directory; nil when there is none.
    func mount(below directory: String) -> String? {
        let beginning = Array("\(directory)/".utf8)
        return mounts.values.first { $0.point.starts(with: beginning) }.map {
            String(decoding: $0.point, as: UTF8.self)
        }
    }

    /// Returns the location in its filesystem of a path that the kernel reported.
    /// - Parameters:
    ///   - path: relative to the root directory of the process whose table this is.
    ///   - mount: the id of the mount that the file is on. The path is not enough: a mount may hide another.
    /// - Returns: nil when the table does not list the mount, or lists it elsewhere. The table of a process in a chroot omits
    ///   mounts outside of the chroot, and the mount of its `/` unless that is a mount point. No table lists a mount that was
    ///   detached (umount2 with MNT_DETACH).
    func location(of path: some Collection<UInt8>, mount id: UInt64) -> Location? {
        guard let mount = mounts[id], let rest = Self.suffix(below: mount.point, of: Array(path)) else { return nil }
        return Location(device: mount.device, path: Self.join(mount.root, rest))
    }

    /// Every path that leads into a place here: by a mount of what it lies in, and by one of something inside it.
    func paths(to location: Location) -> [[UInt8]] {
        mounts.values.compactMap { mount in
            guard mount.device == location.device else { return nil }
            if let rest = Self.suffix(below: mount.root, of: location.path) { return Self.join(mount.point, rest) }
            return Self.suffix(below: location.path, of: mount.root) == nil ? nil : mount.point
        }
    }

    /// What of a path lies below a directory: empty for that itself, nil when it lies elsewhere.
    static func suffix(below directory: [UInt8], of path: [UInt8]) -> ArraySlice<UInt8>? {
        if directory == [UInt8(ascii: "/")] { return path == directory ? [] : path[...] }
        guard path.starts(with: directory) else { return nil }
        let rest = path[directory.count...]
        return rest.isEmpty || rest.first == UInt8(ascii: "/") ? rest : nil
    }

    private static func join(_ directory: [UInt8], _ rest: ArraySlice<UInt8>) -> [UInt8] {
        directory == [UInt8(ascii: "/")] && !rest.isEmpty ? Array(rest) : directory + rest
    }

    /// Blanks, line ends and some others stand as `\ooo` there. See: linux/fs/seq_file.c (`mangle_path`)
    private static func unescaped(_ field: ArraySlice<UInt8>) -> [UInt8] {
        guard field.contains(UInt8(ascii: "\\")) else { return Array(field) }
        var path: [UInt8] = []
        var rest = field
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8) {
                path.append(value)
                rest = rest.dropFirst(digits.count)
            } else {
                path.append(byte)
            }
        }
        return path
    }
}

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
    }

    private struct Mount {
        let id: [UInt8]
        let device: [UInt8]
        /// What of the filesystem is mounted.
        let root: [UInt8]
        let point: [UInt8]
    }

    private let mounts: [Mount]

    /// - Parameter process: a pid, `self`, or a thread as `<pid>/task/<tid>`.
    /// - Returns: nil when it has ended, or may not be looked at.
    init?(of process: String) {
        guard let table = contents(of: "/proc/\(process)/mountinfo") else { return nil }
        mounts = table.split(separator: UInt8(ascii: "\n")).compactMap { line in
            // `<id> <parent> <major:minor> <root> <mount point> ...`
            let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 5)
            guard fields.count > 4 else { return nil }
            return Mount(
                id: Array(fields[0]), device: Array(fields[2]), root: Self.unescaped(fields[3]),
                point: Self.unescaped(fields[4]))
        }
    }

    /// A mount point below a directory; nil when there is none.
    func mount(below directory: String) -> String? {
        let beginning = Array("\(directory)/".utf8)
        return mounts.first { $0.point.starts(with: beginning) }.map { String(decoding: $0.point, as: UTF8.self) }
    }

    /// Where a path leads to, when this is the table of this process; nil when it cannot be opened.
    func location(of path: String) -> Location? {
        // The kernel says which mount it is: one may hide another. See: man 5 proc (/proc/pid/fdinfo)
        let handle = linux_open(path, O_PATH_FLAG | O_NOFOLLOW | O_CLOEXEC, 0)
        guard handle >= 0 else { return nil }
        defer { close(handle) }
        let lines = (contents(of: "/proc/self/fdinfo/\(handle)") ?? []).split(separator: UInt8(ascii: "\n"))
        let field = Array("mnt_id:\t".utf8)
        guard let id = lines.first(where: { $0.starts(with: field) })?.dropFirst(field.count),
            let mount = mounts.first(where: { $0.id.elementsEqual(id) }),
            let rest = Self.below(mount.point, Array(path.utf8))
        else { return nil }
        return Location(device: mount.device, path: Self.join(mount.root, rest))
    }

    /// Every path that leads into a place here: by a mount of what it lies in, and by one of something inside it.
    func paths(to location: Location) -> [[UInt8]] {
        mounts.compactMap { mount in
            guard mount.device == location.device else { return nil }
            if let rest = Self.below(mount.root, location.path) { return Self.join(mount.point, rest) }
            return Self.below(location.path, mount.root) == nil ? nil : mount.point
        }
    }

    /// What of a path lies below a directory: empty for that itself, nil when it lies elsewhere.
    private static func below(_ directory: [UInt8], _ path: [UInt8]) -> ArraySlice<UInt8>? {
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

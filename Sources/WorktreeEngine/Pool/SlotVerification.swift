import CLinux
import Git
import Glibc
import SystemPackage

/// Compares a slot with its index: every entry's type, mode and stat data, and that nothing else is there. An index says
/// nothing of directories: those have mode and owner of the top, and the top has those that it was made with.
///
/// The ctime is among the stat data, and nobody can set it back, so content that has changed shows.
struct SlotVerification: ~Copyable {
    private let index: IndexFile
    private let watch: SlotWatch?
    /// The directories from the top to the current one, by the lengths of their paths.
    private var stack: [(descriptor: CInt, pathLength: Int)] = []
    private var topDevice: dev_t = 0
    private var topRights = DirectoryRights(stat())
    private var namesFound = 0
    private var namesExpected = 0
    /// Every directory could be watched.
    private(set) var isWatched: Bool

    private init(_ index: IndexFile, _ watch: SlotWatch?) {
        self.index = index
        self.watch = watch
        isWatched = watch != nil
    }

    deinit { for directory in stack { close(directory.descriptor) } }

    /// - Parameters:
    ///   - rights: those of the slot when it was filled; nil while it is being filled.
    ///   - watch: put on every directory before anything in it is looked at.
    /// - Returns: what is not as it was filled, nil when everything is; and whether the watch sees all of it.
    static func run(
        _ slot: borrowing Directory, _ index: IndexFile, rights: DirectoryRights?, watch: SlotWatch?
    ) throws(SystemError) -> (mismatch: String?, isWatched: Bool) {
        var verification = SlotVerification(index, watch)
        let top = try system("dup", slot.path) {
            linux_openat(slot.descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        }
        verification.stack.append((top, 0))
        var status = stat()
        try system("fstat", slot.path) { fstat(top, &status) }
        (verification.topDevice, verification.topRights) = (status.st_dev, DirectoryRights(status))
        if let rights, rights != verification.topRights { return ("it has another mode or owner", false) }
        verification.namesFound = try verification.count(top)
        for entry in index.entries {
            if let mismatch = try verification.compare(entry) { return (mismatch, false) }
        }
        guard verification.namesFound == verification.namesExpected else {
            return ("it has \(verification.namesFound) names instead of \(verification.namesExpected)", false)
        }
        return (nil, verification.isWatched)
    }

    /// Index order keeps everything below a directory together, so each directory is entered once.
    private mutating func compare(_ entry: IndexFile.Entry) throws(SystemError) -> String? {
        let path = index.path(entry)
        guard try enter(path) else { return "\(text(path)) has no directory that was made by the checkout" }
        let directory = stack.last!
        namesExpected += 1
        let name =
            path.dropFirst(directory.pathLength == 0 ? 0 : directory.pathLength + 1).map(CChar.init(bitPattern:)) + [0]
        var value = stat()
        guard fstatat(directory.descriptor, name, &value, AT_SYMLINK_NOFOLLOW) == 0 else {
            return "\(text(path)) cannot be read"
        }
        switch entry.mode {
        case 0o160000:
            guard DirectoryRights(value) == topRights, let submodule = open(name, in: directory.descriptor) else {
                return "\(text(path)) is no directory as it was made"
            }
            defer { close(submodule) }
            return try count(submodule) == 0 ? nil : "\(text(path)) is not empty"
        case 0o120000:
            guard value.st_mode & S_IFMT == S_IFLNK else { return "\(text(path)) is no symbolic link" }
        default:
            guard value.st_mode & S_IFMT == S_IFREG, (value.st_mode & 0o100 != 0) == (entry.mode & 0o100 != 0) else {
                return "\(text(path)) has another mode"
            }
        }
        return entry.isPlain && entry.stat.matches(FileStat(value)) ? nil : "\(text(path)) has changed"
    }

    /// Makes the directory of a path the last on the stack.
    private mutating func enter(_ path: ArraySlice<UInt8>) throws(SystemError) -> Bool {
        let slash = UInt8(ascii: "/")
        while let last = stack.last, last.pathLength > 0 {
            if path.count > last.pathLength, path[path.startIndex + last.pathLength] == slash,
                isPrefix(last.pathLength, of: path)
            {
                break
            }
            close(last.descriptor)
            stack.removeLast()
        }
        while true {
            let last = stack.last!
            let start = path.startIndex + (last.pathLength == 0 ? 0 : last.pathLength + 1)
            guard let end = path[start...].firstIndex(of: slash) else { return true }
            guard let opened = open(path[start..<end].map(CChar.init(bitPattern:)) + [0], in: last.descriptor) else {
                return false
            }
            stack.append((opened, end - path.startIndex))
            current = path[..<end]
            namesExpected += 1
            var value = stat()
            try system("fstat", text(path)) { fstat(opened, &value) }
            guard DirectoryRights(value) == topRights, value.st_dev == topDevice else { return false }
            namesFound += try count(opened)
        }
    }

    /// The path of the directory that was entered last; those above it are its beginnings.
    private var current: ArraySlice<UInt8> = []

    private func isPrefix(_ length: Int, of path: ArraySlice<UInt8>) -> Bool {
        length <= current.count && path.prefix(length).elementsEqual(current.prefix(length))
    }

    private func open(_ name: [CChar], in parent: CInt) -> CInt? {
        let opened = linux_openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
        return opened < 0 ? nil : opened
    }

    /// Watches a directory, and only then counts the names in it.
    private mutating func count(_ directory: CInt) throws(SystemError) -> Int {
        if let watch, isWatched { isWatched = watch.add(directory) }
        // A description of its own, since reading moves its position.
        let copy = try system("openat", ".") { linux_openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) }
        guard let stream = fdopendir(copy) else {
            close(copy)
            throw .last("fdopendir", ".")
        }
        defer { closedir(stream) }
        var names = 0
        Glibc.errno = 0
        while let entry = readdir(stream) {
            let isDots = withUnsafeBytes(of: &entry.pointee.d_name) { name in
                name[0] == UInt8(ascii: ".") && (name[1] == 0 || (name[1] == UInt8(ascii: ".") && name[2] == 0))
            }
            if !isDots { names += 1 }
            Glibc.errno = 0
        }
        if Glibc.errno != 0 { throw .last("readdir", ".") }
        return names
    }

    private func text(_ path: ArraySlice<UInt8>) -> String { String(decoding: path, as: UTF8.self) }
}

/// Who may do what in a directory.
struct DirectoryRights: Codable, Hashable, Sendable {
    let mode: UInt32
    let user: UInt32
    let group: UInt32

    init(_ value: stat) { (mode, user, group) = (value.st_mode, value.st_uid, value.st_gid) }
}

extension Directory {
    /// Mode and owner.
    func rights() throws(SystemError) -> DirectoryRights {
        var value = stat()
        try system("fstat", path) { fstat(descriptor, &value) }
        return DirectoryRights(value)
    }
}

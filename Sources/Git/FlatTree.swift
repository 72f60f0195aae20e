import CLibGit2
import Glibc

/// Every file of a tree, in index order, with all paths in one block of memory.
///
/// Paths are bytes, as in git: they need not be UTF-8.
public struct FlatTree: Sendable {
    /// A file, symbolic link or submodule, or a directory.
    public struct Entry: Sendable {
        /// Where the NUL-terminated path begins in ``FlatTree/bytes``.
        public let pathStart: Int
        /// Where its last component begins.
        public let nameStart: Int
        /// The length of the path in bytes, without the NUL.
        public let pathLength: Int
        /// The directory that holds it, as an index into ``FlatTree/directories``.
        public let directory: Int
        /// A git mode: 0o100644, 0o100755, 0o120000, 0o160000 or 0o040000.
        public let mode: UInt32
        /// The object.
        public let id: ObjectID

        /// A file, executable or not.
        public var isFile: Bool { mode & 0o170000 == 0o100000 }
        /// A symbolic link.
        public var isSymlink: Bool { mode == 0o120000 }
        /// A submodule: its directory is made, nothing in it.
        public var isSubmodule: Bool { mode == 0o160000 }
        /// A file that its owner may execute.
        public var isExecutable: Bool { mode & 0o170000 == 0o100000 && mode & 0o100 != 0 }
    }

    /// All paths, each ended by a NUL.
    public private(set) var bytes: [UInt8] = []
    /// Everything but directories, in index order.
    public private(set) var entries: [Entry] = []
    /// Directories, parents first; the first is the top, with an empty path.
    public private(set) var directories: [Entry] = []
    /// A path that git would refuse to check out, if there is one. See: git `read-cache.c` (`verify_path`)
    public private(set) var refusedPath: String?
    /// A path that stands where git would not have put it, or twice, if there is one. An index of this list would not be
    /// one that git reads.
    public fileprivate(set) var unorderedPath: String?

    /// Deeper trees are refused, as by git since 2.43: no path of Linux has more components. See: man git-config
    /// (`core.maxTreeDepth`), man 3 pathconf (PATH_MAX)
    public static let deepest = 2048

    /// Gives a path as a C string.
    public func withPath<T>(_ entry: Entry, _ body: (UnsafePointer<CChar>) -> T) -> T {
        bytes.withUnsafeBytes {
            body($0.baseAddress!.advanced(by: entry.pathStart).assumingMemoryBound(to: CChar.self))
        }
    }

    /// A path as a C string of its own.
    public func cPath(_ entry: Entry) -> [CChar] {
        bytes[entry.pathStart...(entry.pathStart + entry.pathLength)].map { CChar(bitPattern: $0) }
    }

    /// A path as text for a person.
    public func path(_ entry: Entry) -> String {
        String(decoding: bytes[entry.pathStart..<(entry.pathStart + entry.pathLength)], as: UTF8.self)
    }

    /// The last component of a path.
    public func name(_ entry: Entry) -> ArraySlice<UInt8> {
        bytes[entry.nameStart..<(entry.pathStart + entry.pathLength)]
    }

    /// Which directories hold one of these entries, directly or further below. One that holds none is made by nobody, as
    /// with git.
    public func directories(holding entries: some Sequence<Int>) -> [Bool] {
        var isNeeded = [Bool](repeating: false, count: directories.count)
        for index in entries { isNeeded[self.entries[index].directory] = true }
        for index in directories.indices.dropFirst().reversed() where isNeeded[index] {
            isNeeded[directories[index].directory] = true
        }
        return isNeeded
    }

    fileprivate mutating func add(name: UnsafeRawBufferPointer, to parent: Int, mode: UInt32, id: ObjectID) {
        let above = directories[parent]
        let start = bytes.count
        if above.pathLength > 0 {
            for index in above.pathStart..<(above.pathStart + above.pathLength) { bytes.append(bytes[index]) }
            bytes.append(UInt8(ascii: "/"))
        }
        let nameStart = bytes.count
        bytes.append(contentsOf: name)
        let length = bytes.count - start
        bytes.append(0)
        let entry = Entry(
            pathStart: start, nameStart: nameStart, pathLength: length, directory: parent, mode: mode, id: id)
        if mode == 0o040000 { directories.append(entry) } else { entries.append(entry) }
        if refusedPath == nil, isRefused(name, isSymlink: mode == 0o120000) { refusedPath = path(entry) }
    }
}

extension Repository {
    /// Reads a tree and all trees below it.
    /// - Throws: ``GitError``; also for a tree object that is damaged, and for trees deeper than ``FlatTree/deepest``.
    public borrowing func flatten(tree id: ObjectID) throws -> FlatTree {
        let commonDir = String(cString: git_repository_commondir(pointer))
        var reader = ObjectReader(commonDir: commonDir, packs: PackSet(objects: "\(commonDir)/objects"))
        return try reader.flatten(tree: id)
    }
}

extension ObjectReader {
    /// Reads a tree and all trees below it.
    /// - Throws: ``GitError``; also for a tree object that is damaged, and for trees deeper than ``FlatTree/deepest``.
    public mutating func flatten(tree id: ObjectID) throws -> FlatTree {
        var flat = FlatTree(top: id)
        try flatten(directory: 0, depth: 0, into: &flat)
        return flat
    }

    private mutating func flatten(directory: Int, depth: Int, into flat: inout FlatTree) throws {
        guard depth <= FlatTree.deepest else {
            throw GitError(
                code: GIT_ERROR.rawValue, category: Int32(GIT_ERROR_TREE.rawValue),
                message: "the tree has more than \(FlatTree.deepest) levels, deeper than any path can be",
                function: "flatten")
        }
        // The bytes are copied out, since the trees below are read into the same memory.
        let content = try withObject(flat.directories[directory].id, as: .tree) { Array($0) }
        var offset = 0
        var order = NameOrder()
        while offset < content.count {
            let below: Int? = try content.withUnsafeBytes { bytes in
                guard let entry = RawTreeEntry(bytes, at: &offset) else {
                    throw GitError(
                        code: GIT_ERROR.rawValue, category: Int32(GIT_ERROR_TREE.rawValue),
                        message: "tree \(flat.directories[directory].id) is damaged", function: "flatten")
                }
                let name = UnsafeRawBufferPointer(rebasing: bytes[entry.name])
                flat.add(name: name, to: directory, mode: entry.mode, id: entry.id)
                let isDirectory = entry.mode == 0o040000
                if !order.follows(entry.name, isDirectory, in: bytes), flat.unorderedPath == nil {
                    flat.unorderedPath = flat.path(isDirectory ? flat.directories.last! : flat.entries.last!)
                }
                return isDirectory ? flat.directories.count - 1 : nil
            }
            if let below { try flatten(directory: below, depth: depth + 1, into: &flat) }
        }
    }
}

extension FlatTree {
    fileprivate init(top id: ObjectID) {
        bytes = [0]
        directories = [Entry(pathStart: 0, nameStart: 0, pathLength: 0, directory: 0, mode: 0o040000, id: id)]
    }
}

/// One `mode SP name NUL id` record of a tree object. See: git `tree-walk.c` (`decode_tree_entry`)
private struct RawTreeEntry {
    let mode: UInt32
    let name: Range<Int>
    let id: ObjectID

    init?(_ content: UnsafeRawBufferPointer, at offset: inout Int) {
        var mode: UInt32 = 0
        while offset < content.count, content[offset] != UInt8(ascii: " ") {
            guard (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(content[offset]), mode < 0o1000000 else {
                return nil
            }
            mode = mode << 3 | UInt32(content[offset] - UInt8(ascii: "0"))
            offset += 1
        }
        guard offset < content.count,
            let found = memchr(content.baseAddress! + offset, 0, content.count - offset)
        else { return nil }
        let end = UnsafeRawPointer(found) - content.baseAddress!
        guard end + 20 < content.count else { return nil }
        name = (offset + 1)..<end
        guard !name.isEmpty else { return nil }
        id = ObjectID(bytes: content.baseAddress! + end + 1)
        offset = end + 21
        // Old trees hold modes such as 100664; git reads them as one of the canonical ones. See: git `cache.h`
        self.mode =
            switch mode & 0o170000 {
            case 0o100000: mode & 0o100 == 0 ? 0o100644 : 0o100755
            case 0o120000: 0o120000
            case 0o040000: 0o040000
            default: 0o160000
            }
    }
}

/// Sees whether the names of one tree stand in git's order, each once. See: git `fsck.c` (`verify_ordered`)
private struct NameOrder {
    private var previous: (name: Range<Int>, isDirectory: Bool)?
    /// Files whose names the previous name begins with. The directory `a` stands behind the files `a` and `a-b`.
    private var files: [Range<Int>] = []

    mutating func follows(_ name: Range<Int>, _ isDirectory: Bool, in tree: UnsafeRawBufferPointer) -> Bool {
        defer {
            previous = (name, isDirectory)
            if !isDirectory { files.append(name) }
        }
        guard let previous else { return true }
        while let file = files.last, !isBeginning(file, of: name, in: tree) { files.removeLast() }
        if isDirectory, files.contains(where: { $0.count == name.count }) { return false }
        // A directory counts as if a slash ended its name. See: git `tree.c` (`base_name_compare`)
        let length = min(previous.name.count, name.count)
        let order = memcmp(
            tree.baseAddress! + previous.name.lowerBound, tree.baseAddress! + name.lowerBound, length)
        if order != 0 { return order < 0 }
        func end(_ name: Range<Int>, _ isDirectory: Bool) -> UInt8 {
            length < name.count ? tree[name.lowerBound + length] : isDirectory ? UInt8(ascii: "/") : 0
        }
        return end(previous.name, previous.isDirectory) < end(name, isDirectory)
    }

    private func isBeginning(_ file: Range<Int>, of name: Range<Int>, in tree: UnsafeRawBufferPointer) -> Bool {
        file.count <= name.count
            && memcmp(tree.baseAddress! + file.lowerBound, tree.baseAddress! + name.lowerBound, file.count) == 0
    }
}

/// Names that git refuses to write: `.`, `..`, and what some filesystem would take for `.git` or, for a symbolic link, for
/// `.gitmodules`. A backslash separates names there, so each part counts.
/// See: git `read-cache.c` (`verify_path_internal`), `path.c` (`is_ntfs_dotgit`)
private func isRefused(_ name: UnsafeRawBufferPointer, isSymlink: Bool) -> Bool {
    // Nearly every name ends here.
    let first = name[0]
    let isPlain = first != UInt8(ascii: ".") && first | 0x20 != UInt8(ascii: "g")
    if isPlain, memchr(name.baseAddress!, 0x5c, name.count) == nil {
        return memchr(name.baseAddress!, 0x2f, name.count) != nil
    }
    if name.contains(UInt8(ascii: "/")) { return true }
    return name.split(separator: UInt8(ascii: "\\"), omittingEmptySubsequences: false).contains { part in
        guard let first = part.first, first == UInt8(ascii: ".") || first | 0x20 == UInt8(ascii: "g") else {
            return false
        }
        let text = String(decoding: part, as: UTF8.self).lowercased()
        if part.count == name.count, text == "." || text == ".." { return true }
        if isFile(text, ".git") || isFile(text, "git~1") { return true }
        // Short names that NTFS makes of it. See: git `path.c` (`is_ntfs_dotgitmodules`)
        return isSymlink
            && (isFile(text, ".gitmodules") || text.hasPrefix("gi7eba")
                || (1...4).contains { isFile(text, "gitmod~\($0)") })
    }
}

/// Whether NTFS takes a name for `file`: spaces, dots and a stream's name at its end count for nothing.
private func isFile(_ name: String, _ file: String) -> Bool {
    guard name.hasPrefix(file) else { return false }
    let rest = name.dropFirst(file.count).drop { $0 == "." || $0 == " " }
    return rest.isEmpty || rest.first == ":"
}

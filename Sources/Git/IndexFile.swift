import CLibGit2
import Glibc

/// What an index file says, read by our own code: every entry with its stat data and flags, and the tree that it makes.
///
/// libgit2's index drops what a proof of cleanliness needs (whether the file is racy, whether the cache-tree is whole) and
/// makes an allocation for each entry. The file is input of strangers, since a worker owns it: every length is checked
/// against what is there, and anything unknown is an error, which sends the caller to the slower way.
/// The trailing checksum is not compared, as git does not either (`verify_index_checksum`).
/// See: git `Documentation/gitformat-index.txt`, `read-cache.c` (`do_read_index`, `create_from_disk`)
public struct IndexFile: Sendable {
    /// One entry.
    public struct Entry: Sendable {
        /// Where the NUL-terminated path begins in ``IndexFile/bytes``.
        public let pathStart: Int
        /// The length of the path in bytes, without the NUL.
        public let pathLength: Int
        /// A git mode: 0o100644, 0o100755, 0o120000 or 0o160000.
        public let mode: UInt32
        /// The object.
        public let id: ObjectID
        /// What `lstat` said when the file was last found equal to ``id``.
        public let stat: FileStat
        let flags: UInt16
        let extendedFlags: UInt16

        /// 0; or 1 to 3, the sides of an unresolved merge.
        public var stage: Int { Int(flags >> 12 & 3) }
        /// git is told not to look at the file. See: man git-update-index (--assume-unchanged)
        public var isAssumedValid: Bool { flags & 0x8000 != 0 }
        /// git is told that the file may be absent. See: man git-update-index (--skip-worktree)
        public var skipsWorktree: Bool { extendedFlags & 0x4000 != 0 }
        /// The path is announced, its content is not staged. See: man git-add (--intent-to-add)
        public var isIntentToAdd: Bool { extendedFlags & 0x2000 != 0 }
        /// A submodule.
        public var isSubmodule: Bool { mode == 0o160000 }
        /// An entry of which a stat comparison tells all: merged, not hidden, staged, and of a file or symbolic link.
        public var isPlain: Bool { flags & 0xB000 == 0 && extendedFlags == 0 && !isSubmodule }
    }

    /// Holds all paths, each ended by a NUL.
    public private(set) var bytes: [UInt8]
    /// All entries, in index order: strictly ascending by path bytes, then stage.
    public private(set) var entries: [Entry] = []
    /// The tree that the whole index makes, as the cache-tree has it; nil when that is missing or not valid.
    public private(set) var rootTree: ObjectID?
    /// 2, 3 or 4.
    public private(set) var version = 0
    /// When the index was written: the seconds of its mtime.
    public let modifiedSeconds: Int32

    /// Reads an index file.
    /// - Throws: ``GitError``; not found when there is none, and an error of the class `index` for one that is damaged or
    ///   has what is not understood here (a split or sparse index).
    public init(path: String) throws(GitError) {
        let file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { throw Self.failure("open", path) }
        defer { close(file) }
        var value = Glibc.stat()
        guard fstat(file, &value) == 0 else { throw Self.failure("fstat", path) }
        guard value.st_mode & S_IFMT == S_IFREG, value.st_size <= Int(UInt32.max) else {
            throw Self.damaged("\(path) is no index")
        }
        let size = Int(value.st_size)
        var failed = false
        let content = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            while count < size {
                let step = read(file, buffer.baseAddress! + count, size - count)
                if step < 0, errno == EINTR { continue }
                failed = step < 0
                if step <= 0 { return }
                count += step
            }
        }
        if failed { throw Self.failure("read", path) }
        try self.init(bytes: content, modifiedSeconds: Int32(truncatingIfNeeded: value.st_mtim.tv_sec))
    }

    /// Parses the content of an index file.
    /// - Parameter modifiedSeconds: the seconds of the file's mtime.
    /// - Throws: ``GitError``; see ``init(path:)``.
    public init(bytes content: [UInt8], modifiedSeconds: Int32) throws(GitError) {
        self.modifiedSeconds = modifiedSeconds
        bytes = []
        var parser = Parser()
        let isWhole = content.withUnsafeBytes { parser.parse($0) }
        guard isWhole else { throw Self.damaged(parser.problem) }
        entries = parser.entries
        rootTree = parser.rootTree
        version = parser.version
        // Version 4 keeps only the ends of paths.
        bytes = parser.version == 4 ? parser.paths : content
    }

    /// Gives the path of an entry as bytes, valid during the call only.
    public func withPath<T>(_ entry: Entry, _ body: (UnsafeRawBufferPointer) throws -> T) rethrows -> T {
        try bytes.withUnsafeBytes {
            try body(UnsafeRawBufferPointer(rebasing: $0[entry.pathStart..<(entry.pathStart + entry.pathLength)]))
        }
    }

    /// The path of an entry.
    public func path(_ entry: Entry) -> ArraySlice<UInt8> {
        bytes[entry.pathStart..<(entry.pathStart + entry.pathLength)]
    }

    /// Whether the file may have changed after it was compared without its stat data showing it: its mtime is not older
    /// than the index. Whole seconds, since some filesystems have no more. See: git `read-cache.c` (`is_racy_stat`)
    public func isRacy(_ entry: Entry) -> Bool {
        UInt32(bitPattern: entry.stat.mtimeSeconds) >= UInt32(bitPattern: modifiedSeconds)
    }

    private static func damaged(_ message: String) -> GitError {
        GitError(
            code: GIT_ERROR.rawValue, category: Int32(GIT_ERROR_INDEX.rawValue), message: message, function: "IndexFile"
        )
    }

    private static func failure(_ call: String, _ path: String) -> GitError {
        GitError(
            code: errno == ENOENT ? GIT_ENOTFOUND.rawValue : GIT_ERROR.rawValue,
            category: Int32(GIT_ERROR_OS.rawValue), message: "\(path): \(String(cString: strerror(errno)))",
            function: call)
    }
}

extension FileStat {
    /// Whether `lstat` says now what the index says: all that git compares, and nanoseconds, which it only compares where
    /// it was built so. The device is left out as git leaves it out: it changes with a remount.
    /// See: git `statinfo.c` (`match_stat_data`)
    public func matches(_ now: FileStat) -> Bool {
        mtimeSeconds == now.mtimeSeconds && mtimeNanoseconds == now.mtimeNanoseconds
            && ctimeSeconds == now.ctimeSeconds && ctimeNanoseconds == now.ctimeNanoseconds
            && inode == now.inode && size == now.size && user == now.user && group == now.group
    }
}

/// Reads the parts of an index out of memory. No read goes past `end`, whatever the content says.
private struct Parser {
    var entries: [IndexFile.Entry] = []
    var paths: [UInt8] = []
    var rootTree: ObjectID?
    var version = 0
    var problem = "the index is damaged"

    /// - Returns: false when the content is damaged or not understood; `problem` says how.
    mutating func parse(_ content: UnsafeRawBufferPointer) -> Bool {
        // `DIRC`, version, count, ..., SHA-1 of all that.
        guard content.count >= 12 + 20, word(content, 0) == 0x4449_5243 else { return false }
        let end = content.count - 20
        version = Int(word(content, 4))
        guard (2...4).contains(version) else {
            problem = "index version \(version)"
            return false
        }
        let count = Int(word(content, 8))
        // A count that cannot be there would only reserve memory.
        guard count <= end / 62 else { return false }
        entries.reserveCapacity(count)
        if version == 4 { paths.reserveCapacity(count * 64) }
        var offset = 12
        for _ in 0..<count {
            guard let next = entry(content, at: offset, end: end) else { return false }
            offset = next
        }
        return extensions(content, from: offset, end: end)
    }

    /// - Returns: where the next entry begins; nil when this one is damaged.
    private mutating func entry(_ content: UnsafeRawBufferPointer, at offset: Int, end: Int) -> Int? {
        var name = offset + 62
        guard name < end else { return nil }
        let flags = UInt16(content[offset + 60]) << 8 | UInt16(content[offset + 61])
        var extended: UInt16 = 0
        if flags & 0x4000 != 0 {
            guard version >= 3, name + 2 < end else { return nil }
            extended = UInt16(content[name]) << 8 | UInt16(content[name + 1])
            // Only skip-worktree and intent-to-add are known. See: git `read-cache-ll.h` (CE_EXTENDED_FLAGS)
            guard extended & ~0x6000 == 0 else { return nil }
            name += 2
        }
        var kept = 0
        if version == 4 {
            guard let strip = varint(content, at: &name, end: end) else { return nil }
            let previous = entries.last?.pathLength ?? 0
            guard strip <= previous else { return nil }
            kept = previous - strip
        }
        guard name < end, let nul = memchr(content.baseAddress! + name, 0, end - name) else { return nil }
        let tail = UnsafeRawPointer(nul) - (content.baseAddress! + name)
        let length = kept + tail
        guard length > 0, Int(flags & 0xFFF) == min(length, 0xFFF) else { return nil }
        var start = name
        if version == 4 {
            start = paths.count
            if let last = entries.last {
                for position in last.pathStart..<(last.pathStart + kept) { paths.append(paths[position]) }
            }
            paths.append(contentsOf: UnsafeRawBufferPointer(rebasing: content[name...(name + tail)]))
        }
        let base = content.baseAddress! + offset
        let made = IndexFile.Entry(
            pathStart: start, pathLength: length, mode: word(content, offset + 24),
            id: ObjectID(bytes: base + 40), stat: FileStat(content, at: offset), flags: flags, extendedFlags: extended)
        guard isAfterLast(made, content) else { return nil }
        entries.append(made)
        // 1 to 8 NULs, so that the next entry begins at a multiple of 8; version 4 has just one.
        return version == 4 ? name + tail + 1 : offset + ((name + tail - offset + 8) & ~7)
    }

    /// Strictly ascending, as git insists too. See: git `read-cache.c` (`check_ce_order`)
    private func isAfterLast(_ entry: IndexFile.Entry, _ content: UnsafeRawBufferPointer) -> Bool {
        guard let last = entries.last else { return true }
        func compare(_ base: UnsafeRawPointer) -> Bool {
            let order = memcmp(
                base + last.pathStart, base + entry.pathStart, min(last.pathLength, entry.pathLength))
            if order != 0 { return order < 0 }
            if last.pathLength != entry.pathLength { return last.pathLength < entry.pathLength }
            return last.stage > 0 && last.stage < entry.stage
        }
        return version == 4 ? paths.withUnsafeBytes { compare($0.baseAddress!) } : compare(content.baseAddress!)
    }

    private mutating func extensions(_ content: UnsafeRawBufferPointer, from start: Int, end: Int) -> Bool {
        var offset = start
        while offset < end {
            guard end - offset >= 8 else { return false }
            let signature = word(content, offset)
            let size = Int(word(content, offset + 4))
            guard size <= end - offset - 8 else { return false }
            // An upper-case first letter marks what a reader may skip.
            guard (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(content[offset]) else {
                problem = "index extension \(String(decoding: content[offset..<(offset + 4)], as: UTF8.self))"
                return false
            }
            if signature == 0x5452_4545 {  // TREE
                rootTree = root(UnsafeRawBufferPointer(rebasing: content[(offset + 8)..<(offset + 8 + size)]))
            }
            offset += 8 + size
        }
        return offset == end
    }

    /// The first record of a cache-tree: `NUL <entries> SP <subtrees> LF <id>`; no id and -1 entries when it is not valid.
    private func root(_ tree: UnsafeRawBufferPointer) -> ObjectID? {
        let lineEnd = tree.prefix(32).firstIndex(of: UInt8(ascii: "\n"))
        guard tree.first == 0, let lineEnd, tree.count >= lineEnd + 21 else { return nil }
        let numbers = String(decoding: tree[1..<lineEnd], as: UTF8.self).split(separator: " ")
        // A valid one covers every entry.
        guard numbers.count == 2, Int(numbers[0]) == entries.count else { return nil }
        return ObjectID(bytes: tree.baseAddress! + lineEnd + 1)
    }

    /// See: git `varint.c` (`decode_varint`)
    private func varint(_ content: UnsafeRawBufferPointer, at offset: inout Int, end: Int) -> Int? {
        var value = 0
        var isFirst = true
        while offset < end, value < 1 << 40 {
            let byte = content[offset]
            offset += 1
            value = (isFirst ? 0 : (value + 1) << 7) + Int(byte & 127)
            if byte & 128 == 0 { return value }
            isFirst = false
        }
        return nil
    }
}

extension FileStat {
    /// The first fields of an entry: ctime, mtime, device, inode, (mode), user, group, size.
    fileprivate init(_ content: UnsafeRawBufferPointer, at offset: Int) {
        self.init(
            ctime: (Int(word(content, offset)), Int(word(content, offset + 4))),
            mtime: (Int(word(content, offset + 8)), Int(word(content, offset + 12))),
            device: UInt64(word(content, offset + 16)), inode: UInt64(word(content, offset + 20)),
            user: word(content, offset + 28), group: word(content, offset + 32), size: Int64(word(content, offset + 36))
        )
    }
}

/// Four bytes, most significant first. The caller has checked that they are there.
private func word(_ content: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
    UInt32(bigEndian: content.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
}

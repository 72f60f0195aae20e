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
        public var isPlain: Bool { Self.isPlain(flags, extendedFlags, mode) }

        static func isPlain(_ flags: UInt16, _ extendedFlags: UInt16, _ mode: UInt32) -> Bool {
            flags & 0xB000 == 0 && extendedFlags == 0 && mode != 0o160000
        }
    }

    /// Where an entry is, in the content of the index and in ``bytes``. An index is not larger than 4 GiB.
    struct Place {
        let record: UInt32
        let pathStart: UInt32
        let pathLength: UInt32
    }

    /// All entries, in index order: strictly ascending by path bytes, then stage.
    ///
    /// One is made when it is asked for: an index that is looked at once need not be copied into a larger form.
    public struct Entries: RandomAccessCollection, Sendable {
        fileprivate let content: [UInt8]
        fileprivate let places: [Place]

        /// 0.
        public var startIndex: Int { 0 }
        /// How many there are.
        public var endIndex: Int { places.count }

        /// Reads an entry out of the content of the file.
        public subscript(position: Int) -> Entry {
            let place = places[position]
            return content.withUnsafeBytes { Entry(place, $0) }
        }

        /// Where the path of an entry lies in ``IndexFile/bytes``, without its NUL.
        public func path(at position: Int) -> Range<Int> {
            let place = places[position]
            return Int(place.pathStart)..<(Int(place.pathStart) + Int(place.pathLength))
        }
    }

    /// Holds all paths, each ended by a NUL.
    public let bytes: [UInt8]
    /// All entries, in index order.
    public let entries: Entries
    /// Whether each entry is plain. See: ``Entry/isPlain``
    public let isPlain: Bool
    /// The tree that the whole index makes, as the cache-tree has it; nil when that is missing or not valid.
    public let rootTree: ObjectID?
    /// 2, 3 or 4.
    public let version: Int
    /// When the index was written: the seconds of its mtime.
    public let modifiedSeconds: Int32
    /// The seconds of the latest mtime of an entry.
    private let latestSeconds: UInt32

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
        var parser = IndexParser()
        let isWhole = content.withUnsafeBytes { parser.parse($0) }
        guard isWhole else { throw Self.damaged(parser.problem) }
        self.modifiedSeconds = modifiedSeconds
        entries = Entries(content: content, places: parser.places)
        isPlain = parser.isPlain
        latestSeconds = parser.latestSeconds
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

    /// Whether an entry is racy. See: ``isRacy(_:)``
    public var hasRacyEntries: Bool {
        !entries.isEmpty && latestSeconds >= UInt32(bitPattern: modifiedSeconds)
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

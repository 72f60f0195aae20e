import CLibGit2
import Glibc

/// What `lstat` said of a file right after it was written: the fields that an index entry keeps.
public struct FileStat: Hashable, Sendable {
    var ctimeSeconds: Int32
    var ctimeNanoseconds: UInt32
    var mtimeSeconds: Int32
    var mtimeNanoseconds: UInt32
    var device: UInt32
    var inode: UInt32
    var user: UInt32
    var group: UInt32
    var size: UInt32

    /// The low 32 bits of the size in bytes.
    public var byteCount: UInt32 { size }

    /// Keeps the low 32 bits of each field, as git's index does. See: git `Documentation/gitformat-index`
    public init(
        ctime: (seconds: Int, nanoseconds: Int), mtime: (seconds: Int, nanoseconds: Int), device: UInt64,
        inode: UInt64, user: UInt32, group: UInt32, size: Int64
    ) {
        ctimeSeconds = Int32(truncatingIfNeeded: ctime.seconds)
        ctimeNanoseconds = UInt32(truncatingIfNeeded: ctime.nanoseconds)
        mtimeSeconds = Int32(truncatingIfNeeded: mtime.seconds)
        mtimeNanoseconds = UInt32(truncatingIfNeeded: mtime.nanoseconds)
        self.device = UInt32(truncatingIfNeeded: device)
        self.inode = UInt32(truncatingIfNeeded: inode)
        self.user = user
        self.group = group
        self.size = UInt32(truncatingIfNeeded: size)
    }

    /// The entry of a submodule, of which git keeps no stat data.
    public init() {
        self.init(
            ctime: (0, 0), mtime: (0, 0), device: 0, inode: 0, user: 0, group: 0, size: 0)
    }
}

extension Repository {
    /// A file that git is told not to look at: assume-unchanged or skip-worktree.
    public struct HiddenEntry: Sendable {
        /// The path, as bytes.
        public let path: [UInt8]
        /// The staged content.
        public let id: ObjectID
        /// The mode in the index.
        public let mode: UInt32
        /// skip-worktree: the file may be absent.
        public let mayBeAbsent: Bool
    }

    /// What the index of this handle says that status does not: hidden entries, and submodules.
    /// - Throws: ``GitError``.
    public borrowing func indexFlags() throws(GitError) -> (
        hidden: [HiddenEntry], submodules: [(path: [UInt8], id: ObjectID)]
    ) {
        var index: OpaquePointer?
        try check(git_repository_index(&index, pointer), "git_repository_index")
        defer { git_index_free(index) }
        var hidden: [HiddenEntry] = []
        var submodules: [(path: [UInt8], id: ObjectID)] = []
        for position in 0..<git_index_entrycount(index) {
            guard let entry = git_index_get_byindex(index, position)?.pointee else { continue }
            let skips = entry.flags_extended & UInt16(GIT_INDEX_ENTRY_SKIP_WORKTREE.rawValue) != 0
            let assumed = entry.flags & 0x8000 != 0  // GIT_INDEX_ENTRY_VALID; an enum that Swift sees as signed
            let isSubmodule = entry.mode == 0o160000
            guard skips || assumed || isSubmodule else { continue }
            let path = Array(UnsafeRawBufferPointer(start: entry.path, count: strlen(entry.path)))
            if isSubmodule {
                submodules.append((path, ObjectID(entry.id)))
            } else {
                hidden.append(
                    HiddenEntry(path: path, id: ObjectID(entry.id), mode: entry.mode, mayBeAbsent: skips))
            }
        }
        return (hidden, submodules)
    }

    /// The blob that `git add` would make of a file of the workdir, filters applied.
    /// - Throws: ``GitError``.
    public borrowing func hash(file path: [UInt8]) throws(GitError) -> ObjectID {
        var id = git_oid()
        let cPath = path.map { CChar(bitPattern: $0) } + [0]
        try check(git_repository_hashfile(&id, pointer, cPath, GIT_OBJECT_BLOB, nil), "git_repository_hashfile")
        return ObjectID(id)
    }
}

import CLinux
import Dispatch
import Git
import Glibc
import Synchronization
import SystemPackage

/// Fills an empty directory with the files of a tree, as `git checkout` would, and says what `lstat` found of each.
///
/// The destination is private and empty, so nothing is ever replaced: a file that exists is an error, and no symbolic
/// link can be followed, since links are made last. A fixed set of workers takes chunks of the sorted entries; each has
/// a repository handle of its own.
struct Checkout {
    let commonDir: String
    let flat: FlatTree
    /// Attributes may ask for another content than the blob's.
    let converts: Bool
    let workers: Int
    /// Given to every file: the second before the checkout began. So no entry of the index is racy, and any later edit
    /// changes the mtime by at least a second, which is what git compares. See: git `Documentation/technical/racy-git`
    private let mtime: timespec

    /// Work is handed out in pieces of this many entries: small enough to share the tail, large enough that a worker
    /// stays within a directory.
    private static let chunk = 128

    init(commonDir: String, flat: FlatTree, converts: Bool, workers: Int) {
        self.commonDir = commonDir
        self.flat = flat
        self.converts = converts
        self.workers = workers
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        mtime = timespec(tv_sec: now.tv_sec - 1, tv_nsec: 0)
    }

    /// Writes everything below `path`, an existing empty directory.
    /// - Returns: one value for each entry of the tree, in its order.
    /// - Throws: the first error of any worker; what was written stays for the caller to remove.
    func fill(_ path: String) throws -> [FileStat] {
        let top = try Directory(path)
        try makeDirectories(top)
        var stats = [FileStat](repeating: FileStat(), count: flat.entries.count)
        // Attributes are read from files on disk, so those files come first, as they stand in the tree; where an
        // attribute converts them too, they are written again at the end.
        let attributes = converts ? indices { flat.name($0).elementsEqual(".gitattributes".utf8) } : []
        try write(attributes, top, path, convert: false, into: &stats)
        let plain = Set(attributes)
        try writeInParallel(top, path, skipping: plain, into: &stats)
        try rewriteConverted(attributes, top, path, into: &stats)
        try write(indices(where: \.isSymlink), top, path, convert: false, into: &stats)
        // The workers' arenas keep what they freed; the index needs as much again. See: man 3 malloc_trim
        _ = linux_malloc_trim()
        return stats
    }

    private func indices(where matches: (FlatTree.Entry) -> Bool) -> [Int] {
        flat.entries.indices.filter { matches(flat.entries[$0]) }
    }

    private func makeDirectories(_ top: borrowing Directory) throws {
        let descriptor = top.descriptor
        for entry in flat.directories.dropFirst() + flat.entries.filter(\.isSubmodule) {
            try system("mkdirat", flat.path(entry)) { flat.withPath(entry) { mkdirat(descriptor, $0, 0o777) } }
        }
    }

    private func write(
        _ indices: [Int], _ top: borrowing Directory, _ path: String, convert: Bool, into stats: inout [FileStat]
    ) throws {
        guard !indices.isEmpty else { return }
        var writer = try BlobWriter(self, top: top.descriptor, path: path, converts: convert)
        for index in indices { stats[index] = try writer.write(flat.entries[index]) }
    }

    private func writeInParallel(
        _ top: borrowing Directory, _ path: String, skipping done: Set<Int>, into stats: inout [FileStat]
    ) throws {
        let next = Atomic<Int>(0)
        let results = Mutex<(stats: [FileStat], error: (any Error)?)>((stats, nil))
        stats = []
        let descriptor = top.descriptor
        DispatchQueue.concurrentPerform(iterations: max(1, min(workers, flat.entries.count / Self.chunk + 1))) { _ in
            do {
                var writer = try BlobWriter(self, top: descriptor, path: path, converts: converts)
                while true {
                    let start = next.add(Self.chunk, ordering: .relaxed).oldValue
                    if start >= flat.entries.count || results.withLock({ $0.error != nil }) { return }
                    var chunk: [FileStat] = []
                    chunk.reserveCapacity(Self.chunk)
                    for index in start..<min(start + Self.chunk, flat.entries.count) {
                        let entry = flat.entries[index]
                        let isLater = entry.isSymlink || entry.isSubmodule || (!done.isEmpty && done.contains(index))
                        chunk.append(isLater ? FileStat() : try writer.write(entry))
                    }
                    results.withLock { results in
                        for (offset, value) in chunk.enumerated() where !done.contains(start + offset) {
                            results.stats[start + offset] = value
                        }
                    }
                }
            } catch {
                results.withLock { if $0.error == nil { $0.error = error } }
            }
        }
        let (filled, error) = results.withLock { results in
            defer { results.stats = [] }
            return (results.stats, results.error)
        }
        if let error { throw error }
        stats = filled
    }

    private func rewriteConverted(
        _ indices: [Int], _ top: borrowing Directory, _ path: String, into stats: inout [FileStat]
    ) throws {
        // All are converted before one is replaced, since each is an attribute source for the others.
        var writer = try BlobWriter(self, top: top.descriptor, path: path, converts: true)
        let contents = try indices.map { try writer.convertedContent(flat.entries[$0]) }
        for (index, content) in zip(indices, contents) {
            guard let content else { continue }
            let entry = flat.entries[index]
            let descriptor = top.descriptor
            try system("unlinkat", flat.path(entry)) { flat.withPath(entry) { unlinkat(descriptor, $0, 0) } }
            stats[index] = try writer.write(entry, content: content)
        }
    }

    /// Writes blobs one after the other; owned by one worker.
    private struct BlobWriter: ~Copyable {
        private let checkout: Checkout
        private let top: CInt
        private let workdir: String
        private let converts: Bool
        private var repository: Repository
        private var directory: (index: Int, descriptor: CInt)

        init(_ checkout: Checkout, top: CInt, path: String, converts: Bool) throws {
            self.checkout = checkout
            self.top = top
            self.converts = converts
            workdir = path
            repository = try Self.open(checkout, path)
            directory = (0, dup(top))
        }

        deinit { close(directory.descriptor) }

        private static func open(_ checkout: Checkout, _ path: String) throws -> Repository {
            let repository = try Repository(gitDirectory: checkout.commonDir)
            if checkout.converts {
                try repository.useWorkdir(path)
                try repository.useEmptyIndex()
            }
            return repository
        }

        mutating func write(_ entry: FlatTree.Entry) throws -> FileStat {
            if entry.isSubmodule { return FileStat() }
            let parent = try enter(entry.directory)
            var attempt = 1
            while true {
                do { return try copy(entry, parent) } catch let error as GitError {
                    // A `git gc` beside us removes packs that this handle has not opened yet; a new handle sees the new.
                    if attempt == 3 {
                        throw EngineError(
                            .git, .needsHuman,
                            "\(checkout.flat.path(entry)): object \(entry.id) cannot be read from \(checkout.commonDir) "
                                + "(\(error.message)). `git fsck` there tells what is missing; fetch it again.",
                            cause: error)
                    }
                    repository = try Self.open(checkout, workdir)
                    attempt += 1
                }
            }
        }

        private borrowing func copy(_ entry: FlatTree.Entry, _ parent: CInt) throws -> FileStat {
            let checkout = checkout
            if converts, !entry.isSymlink {
                return try repository.withFilteredBlob(entry.id, path: checkout.flat.cPath(entry)) {
                    try checkout.create(entry, in: parent, $0)
                }
            }
            return try repository.withBlob(entry.id) { try checkout.create(entry, in: parent, $0) }
        }

        mutating func write(_ entry: FlatTree.Entry, content: [UInt8]) throws -> FileStat {
            let parent = try enter(entry.directory)
            return try content.withUnsafeBytes { try checkout.create(entry, in: parent, $0) }
        }

        /// The content that attributes ask for; nil when it is the blob's own.
        mutating func convertedContent(_ entry: FlatTree.Entry) throws -> [UInt8]? {
            let plain = try repository.withObject(entry.id) { Array($0) }
            let converted = try repository.withFilteredBlob(entry.id, path: checkout.flat.cPath(entry)) { Array($0) }
            return plain == converted ? nil : converted
        }

        private mutating func enter(_ index: Int) throws -> CInt {
            if directory.index == index { return directory.descriptor }
            let entry = checkout.flat.directories[index]
            let (top, flat) = (top, checkout.flat)
            let flags = O_PATH_FLAG | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
            let opened = try system("openat", flat.path(entry)) {
                index == 0 ? dup(top) : flat.withPath(entry) { linux_openat(top, $0, flags, 0) }
            }
            close(directory.descriptor)
            directory = (index, opened)
            return opened
        }
    }
}

extension Checkout {
    /// Writes one file or symbolic link into an open directory.
    fileprivate func create(
        _ entry: FlatTree.Entry, in parent: CInt, _ bytes: UnsafeRawBufferPointer
    ) throws(SystemError) -> FileStat {
        var value = stat()
        let name = UnsafeNamePointer(flat, entry)
        if entry.isSymlink {
            let target = bytes.map { CChar(bitPattern: $0) } + [0]
            try system("symlinkat", flat.path(entry)) { name.with { symlinkat(target, parent, $0) } }
            try withTimes { times throws(SystemError) in
                try system("utimensat", flat.path(entry)) {
                    name.with { utimensat(parent, $0, times, AT_SYMLINK_NOFOLLOW) }
                }
            }
            try system("fstatat", flat.path(entry)) { name.with { fstatat(parent, $0, &value, AT_SYMLINK_NOFOLLOW) } }
            return FileStat(value)
        }
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = try system("openat", flat.path(entry)) {
            name.with { linux_openat(parent, $0, flags, entry.isExecutable ? 0o777 : 0o666) }
        }
        defer { close(file) }
        var written = 0
        while written < bytes.count {
            let count = Glibc.write(file, bytes.baseAddress!.advanced(by: written), bytes.count - written)
            if count < 0, Glibc.errno == EINTR { continue }
            if count < 0 { throw .last("write", flat.path(entry)) }
            written += count
        }
        try withTimes { times throws(SystemError) in
            try system("futimens", flat.path(entry)) { futimens(file, times) }
        }
        try system("fstat", flat.path(entry)) { fstat(file, &value) }
        guard value.st_size == bytes.count else {
            throw SystemError(call: "write (short)", path: flat.path(entry), errno: .ioError)
        }
        return FileStat(value)
    }

    private func withTimes(_ body: (UnsafePointer<timespec>) throws(SystemError) -> Void) throws(SystemError) {
        let times = (timespec(tv_sec: 0, tv_nsec: Int(UTIME_OMIT_VALUE)), mtime)
        let result: Result<Void, SystemError> = withUnsafePointer(to: times) { pointer in
            pointer.withMemoryRebound(to: timespec.self, capacity: 2) { rebound in
                do throws(SystemError) { return .success(try body(rebound)) } catch { return .failure(error) }
            }
        }
        try result.get()
    }
}

/// `UTIME_OMIT`, a macro that Swift does not import. See: man 2 utimensat
private let UTIME_OMIT_VALUE = (1 << 30) - 2

/// The last component of an entry's path as a C string.
private struct UnsafeNamePointer {
    let flat: FlatTree
    let entry: FlatTree.Entry

    init(_ flat: FlatTree, _ entry: FlatTree.Entry) {
        self.flat = flat
        self.entry = entry
    }

    func with<T>(_ body: (UnsafePointer<CChar>) -> T) -> T {
        flat.withPath(entry) { body($0.advanced(by: entry.nameStart - entry.pathStart)) }
    }
}

extension FileStat {
    init(_ value: stat) {
        self.init(
            ctime: (value.st_ctim.tv_sec, value.st_ctim.tv_nsec), mtime: (value.st_mtim.tv_sec, value.st_mtim.tv_nsec),
            device: UInt64(value.st_dev), inode: UInt64(value.st_ino), user: value.st_uid, group: value.st_gid,
            size: Int64(value.st_size))
    }
}

import CLinux
import Git
import Glibc
import SystemPackage

/// Writes blobs one after the other into every destination of a checkout; owned by one worker.
struct TreeWriter: ~Copyable {
    private let job: Checkout.Job
    private let flat: FlatTree
    private var reader: ObjectReader
    /// Only where attributes have to be looked up.
    private var repository: Repository?
    /// The directory that was written to last, in each destination.
    private var directory = 0
    private let directories: Descriptors
    private var seen: [DirectoryNotes.Seen] = []
    /// Keeps what is written.
    private let recording: TreeContents?
    /// Has all that is to be written.
    private let memory: TreeContents?

    /// - Parameter converts: look attributes up, and write what they ask for.
    init(_ job: Checkout.Job, converts: Bool) throws {
        self.job = job
        switch job.source {
        case .repository: (recording, memory) = (nil, nil)
        case .recording(let contents): (recording, memory) = (contents, nil)
        case .memory(let contents): (recording, memory) = (nil, contents)
        }
        flat = job.checkout.flat
        reader = ObjectReader(commonDir: job.checkout.commonDir, packs: job.packs)
        repository = converts ? try Self.openForAttributes(job) : nil
        directories = try Descriptors(duplicating: job.tops, job.attributeSource)
    }

    /// Closed when the writer is gone, also when it fails half-way.
    private final class Descriptors {
        var numbers: [CInt] = []

        init(duplicating others: [CInt], _ path: String) throws(SystemError) {
            for other in others { numbers.append(try duplicate(other, path)) }
        }

        deinit { for number in numbers { close(number) } }
    }

    private static func openForAttributes(_ job: Checkout.Job) throws -> Repository {
        let repository = try Repository(gitDirectory: job.checkout.commonDir)
        try repository.useWorkdir(job.attributeSource)
        try repository.useEmptyIndex()
        return repository
    }

    /// Where the packs have the contents of some entries; empty when nothing is read.
    func places(of indices: ArraySlice<Int>) -> [PackPlace?] {
        memory == nil ? indices.map { reader.place(of: flat.entries[$0].id) } : []
    }

    /// Writes one file or symbolic link.
    /// - Parameters:
    ///   - index: of its entry in the tree.
    ///   - place: where its contents are, if that is known.
    ///   - done: is given the destination's number and what `lstat` says there.
    mutating func write(_ index: Int, at place: PackPlace? = nil, _ done: (Int, FileStat) -> Void) throws {
        let entry = flat.entries[index]
        if entry.isSubmodule { return }
        try enter(entry.directory)
        if let memory { return try spread(entry, memory[index], done) }
        var attempt = 1
        while true {
            do { return try copy(index, place, done) } catch let error as GitError {
                // A `git gc` beside us removes packs that a handle has not opened yet; a new handle sees the new.
                if attempt == 3 {
                    let commonDir = job.checkout.commonDir
                    throw EngineError(
                        .git, .needsHuman,
                        "\(flat.path(entry)): object \(entry.id) cannot be read from \(commonDir) (\(error.message)). "
                            + "`git fsck` there tells what is missing; fetch it again.", cause: error)
                }
                reader.reopen()
                if repository != nil { repository = try Self.openForAttributes(job) }
                attempt += 1
            }
        }
    }

    private mutating func copy(_ index: Int, _ place: PackPlace?, _ done: (Int, FileStat) -> Void) throws {
        let entry = flat.entries[index]
        // Copies, since the reader is being changed meanwhile.
        let (flat, directories, mtime, recording) = (flat, directories.numbers, job.checkout.mtime, recording)
        func spread(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
            for (number, parent) in directories.enumerated() {
                done(number, try flat.create(entry, in: parent, bytes, mtime: mtime))
            }
            recording?.record(index, bytes)
        }
        if repository != nil, job.checkout.conversion.mayConvert(entry, in: flat) {
            try repository!.withFilteredBlob(entry.id, path: flat.cPath(entry)) { try spread($0) }
        } else {
            try reader.withBlob(entry.id, at: place) { try spread($0) }
        }
    }

    private func spread(
        _ entry: FlatTree.Entry, _ bytes: UnsafeRawBufferPointer, _ done: (Int, FileStat) -> Void
    ) throws(SystemError) {
        for (number, parent) in directories.numbers.enumerated() {
            done(number, try flat.create(entry, in: parent, bytes, mtime: job.checkout.mtime))
        }
    }

    /// Writes a file with another content than its blob's.
    mutating func write(
        _ index: Int, content: UnsafeRawBufferPointer, _ done: (Int, FileStat) -> Void
    ) throws {
        let entry = flat.entries[index]
        try enter(entry.directory)
        try spread(entry, content, done)
    }

    /// The content that attributes ask for; nil when it is the blob's own.
    mutating func convertedContent(_ index: Int) throws -> [UInt8]? {
        let entry = flat.entries[index]
        let plain = try reader.withBlob(entry.id) { Array($0) }
        let converted = try repository!.withFilteredBlob(entry.id, path: flat.cPath(entry)) { Array($0) }
        return plain == converted ? nil : converted
    }

    private mutating func enter(_ index: Int) throws {
        if directory == index { return }
        leave()
        let entry = flat.directories[index]
        for (number, top) in job.tops.enumerated() {
            let flags = O_PATH_FLAG | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
            // The top's own path is empty.
            let opened =
                try index == 0
                ? duplicate(top, flat.path(entry))
                : system("openat", flat.path(entry)) { flat.withPath(entry) { linux_openat(top, $0, flags, 0) } }
            close(directories.numbers[number])
            directories.numbers[number] = opened
        }
        directory = index
    }

    private mutating func leave() {
        guard job.notes != nil, directory != 0 else { return }
        for (number, descriptor) in directories.numbers.enumerated() {
            var value = stat()
            if fstat(descriptor, &value) == 0 { seen.append(DirectoryNotes.Seen(directory, number, value)) }
        }
    }

    /// Tells what was seen of the directories. Nothing is written after it.
    mutating func finish() {
        leave()
        job.notes?.add(seen)
        seen = []
    }
}

extension FlatTree {
    /// Writes one file or symbolic link into an open directory.
    fileprivate func create(
        _ entry: Entry, in parent: CInt, _ bytes: UnsafeRawBufferPointer, mtime: timespec
    ) throws(SystemError) -> FileStat {
        entry.isSymlink
            ? try link(entry, in: parent, bytes, mtime: mtime) : try createFile(entry, in: parent, bytes, mtime: mtime)
    }

    private func createFile(
        _ entry: Entry, in parent: CInt, _ bytes: UnsafeRawBufferPointer, mtime: timespec
    ) throws(SystemError) -> FileStat {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = try system("openat", path(entry)) {
            withName(entry) { linux_openat(parent, $0, flags, entry.isExecutable ? 0o777 : 0o666) }
        }
        defer { close(file) }
        var written = 0
        while written < bytes.count {
            let count = Glibc.write(file, bytes.baseAddress!.advanced(by: written), bytes.count - written)
            if count < 0, Glibc.errno == EINTR { continue }
            if count < 0 { throw .last("write", path(entry)) }
            written += count
        }
        var value = stat()
        try system("futimens", path(entry)) { withTimes(mtime) { futimens(file, $0) } }
        try system("fstat", path(entry)) { fstat(file, &value) }
        guard value.st_size == bytes.count else {
            throw SystemError(call: "write (short)", path: path(entry), errno: .ioError)
        }
        return FileStat(value)
    }

    private func link(
        _ entry: Entry, in parent: CInt, _ bytes: UnsafeRawBufferPointer, mtime: timespec
    ) throws(SystemError) -> FileStat {
        let target = bytes.map { CChar(bitPattern: $0) } + [0]
        var value = stat()
        try system("symlinkat", path(entry)) { withName(entry) { symlinkat(target, parent, $0) } }
        try system("utimensat", path(entry)) {
            withTimes(mtime) { times in withName(entry) { utimensat(parent, $0, times, AT_SYMLINK_NOFOLLOW) } }
        }
        try system("fstatat", path(entry)) { withName(entry) { fstatat(parent, $0, &value, AT_SYMLINK_NOFOLLOW) } }
        return FileStat(value)
    }

    private func withName<T>(_ entry: Entry, _ body: (UnsafePointer<CChar>) -> T) -> T {
        withPath(entry) { body($0.advanced(by: entry.nameStart - entry.pathStart)) }
    }
}

private func withTimes(_ mtime: timespec, _ body: (UnsafePointer<timespec>) -> CInt) -> CInt {
    withUnsafePointer(to: (timespec(tv_sec: 0, tv_nsec: UTIME_OMIT_VALUE), mtime)) {
        $0.withMemoryRebound(to: timespec.self, capacity: 2, body)
    }
}

/// `UTIME_OMIT`, a macro that Swift does not import. See: man 2 utimensat
private let UTIME_OMIT_VALUE = (1 << 30) - 2

extension FileStat {
    init(_ value: stat) {
        self.init(
            ctime: (value.st_ctim.tv_sec, value.st_ctim.tv_nsec), mtime: (value.st_mtim.tv_sec, value.st_mtim.tv_nsec),
            device: UInt64(value.st_dev), inode: UInt64(value.st_ino), user: value.st_uid, group: value.st_gid,
            size: Int64(value.st_size))
    }
}

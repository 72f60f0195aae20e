import CLinux
import Dispatch
import Git
import Glibc
import Synchronization
import SystemPackage

/// Fills empty directories with the files of a tree, as `git checkout` would, and says what `lstat` found of each file
/// and directory.
///
/// A destination is private and empty, so nothing is ever replaced: a file that exists is an error, and no symbolic
/// link can be followed, since links are made last. A fixed set of workers takes chunks of the sorted entries. With
/// several destinations each blob is read once and written to all of them.
struct Checkout {
    let commonDir: String
    let flat: FlatTree
    /// The files for which attributes may ask for another content than the blobs'.
    let conversion: Conversion
    let workers: Int
    /// Given to every file: the second before the checkout began. So no entry of the index is racy, and any later edit
    /// changes the mtime by at least a second, which is what git compares. See: git `Documentation/technical/racy-git`
    let mtime: timespec
    /// Where contents are kept for the next checkout of the same tree. Not where attributes convert: they are read when a
    /// file is written, and may have changed since the key was made.
    private let cache: Cache?

    /// A place in a ``ContentCache``: the key says everything that decides the contents.
    struct Cache: Sendable {
        let contents: ContentCache
        let key: String
    }

    init(commonDir: String, flat: FlatTree, conversion: Conversion, workers: Int, cache: Cache? = nil) {
        self.commonDir = commonDir
        self.flat = flat
        self.conversion = conversion
        self.workers = workers
        self.cache = conversion.isNeeded ? nil : cache
        // The clock that files are stamped by: the other one is some milliseconds ahead of it, and in another second at times.
        // See: linux/fs/inode.c (`inode_set_ctime_current`), man 2 clock_gettime
        var now = timespec()
        clock_gettime(CLOCK_REALTIME_COARSE, &now)
        mtime = timespec(tv_sec: now.tv_sec - 1, tv_nsec: 0)
    }

    /// The same checkout, as if it had been made now.
    func startingNow() -> Checkout {
        Checkout(commonDir: commonDir, flat: flat, conversion: conversion, workers: workers, cache: cache)
    }

    /// What was made in one destination.
    struct Filled {
        /// One value for each entry of the tree, in its order.
        let stats: [FileStat]
        let directories: DirectoryTimes
    }

    /// Writes everything below `path`, an existing empty directory.
    /// - Throws: the first error of any worker; what was written stays for the caller to remove.
    func fill(_ path: String) throws -> Filled { try fill([path])[0] }

    /// Writes everything below each of `paths`.
    func fill(_ paths: [String]) throws -> [Filled] {
        let all = Array(flat.entries.indices)
        guard let cache else { return try fill(all, paths, .repository) }
        let source = cache.contents.source(cache.key, entries: all.count)
        let count = flat.entries.count { !$0.isSubmodule }
        do {
            let filled = try fill(all, paths, source)
            let size = filled[0].stats.reduce(0) { $0 + Int($1.byteCount) }
            cache.contents.finished(cache.key, source, size: size, count: count)
            return filled
        } catch {
            cache.contents.finished(cache.key, source, size: nil, count: count)
            throw error
        }
    }

    private func fill(_ all: [Int], _ paths: [String], _ source: ContentCache.Source) throws -> [Filled] {
        try withTops(paths) { tops in
            let notes = DirectoryNotes()
            let stats = try write(all, below: paths, tops, directoriesMayExist: false, source, notes)
            return zip(stats, notes.times(flat, tops)).map { Filled(stats: $0, directories: $1) }
        }
    }

    /// Writes some entries below `path`, where nothing stands in their way but directories.
    /// - Parameter wanted: indices into the tree's entries, ascending. Only without conversion.
    /// - Returns: one value for each entry of the tree; those that were not wanted are empty.
    func write(_ wanted: [Int], below path: String) throws -> [FileStat] {
        precondition(!conversion.isNeeded, "attributes are read from files that may not be among the wanted")
        return try withTops([path]) { tops in
            try write(wanted, below: [path], tops, directoriesMayExist: true, .repository)[0]
        }
    }

    private func withTops<T>(_ paths: [String], _ body: ([CInt]) throws -> T) throws -> T {
        var tops: [CInt] = []
        defer { for top in tops { close(top) } }
        for path in paths {
            tops.append(
                try system("open", path) { linux_open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0) })
        }
        return try body(tops)
    }

    private func write(
        _ wanted: [Int], below paths: [String], _ tops: [CInt], directoriesMayExist: Bool,
        _ source: ContentCache.Source, _ notes: DirectoryNotes? = nil
    ) throws -> [[FileStat]] {
        let job = Job(self, source, tops: tops, attributeSource: paths[0], notes)
        var stats = [[FileStat]](
            repeating: [FileStat](repeating: FileStat(), count: flat.entries.count), count: tops.count)
        // Attributes are read from files on disk, so those files come first, as they stand in the tree; where an
        // attribute converts them too, they are written again at the end.
        let attributes =
            conversion.isNeeded
            ? wanted.filter { flat.name(flat.entries[$0]).elementsEqual(".gitattributes".utf8) } : []
        let areMade = !attributes.isEmpty
        if areMade { try makeDirectories(wanted, job, mayExist: directoriesMayExist) }
        try write(attributes, job, into: &stats)
        let early = Set(attributes)
        let (links, files) = (
            wanted.filter { flat.entries[$0].isSymlink },
            wanted.filter { flat.entries[$0].isFile && (early.isEmpty || !early.contains($0)) }
        )
        try writeInParallel(files, job, into: &stats) { made in
            if !areMade { try makeDirectories(wanted, job, mayExist: directoriesMayExist, made) }
        }
        try rewriteConverted(attributes, job, into: &stats)
        try write(links, job, into: &stats)
        // The workers' arenas keep what they freed; the index needs as much again. See: man 3 malloc_trim
        _ = linux_malloc_trim()
        return stats
    }

    /// Makes the directories that the wanted entries need, in every destination.
    /// - Parameter made: is told after each how many of the tree's directories need no more waiting for.
    private func makeDirectories(
        _ wanted: [Int], _ job: Job, mayExist: Bool, _ made: (Int) -> Void = { _ in }
    ) throws {
        let isNeeded = flat.directories(holding: wanted)
        func make(_ entry: FlatTree.Entry) throws(SystemError) {
            for top in job.tops {
                if flat.withPath(entry, { mkdirat(top, $0, 0o777) }) == 0 { continue }
                if mayExist, Glibc.errno == EEXIST { continue }
                throw SystemError.last("mkdirat", flat.path(entry))
            }
        }
        for index in flat.directories.indices.dropFirst() where isNeeded[index] {
            try make(flat.directories[index])
            made(index + 1)
        }
        for index in wanted where flat.entries[index].isSubmodule { try make(flat.entries[index]) }
    }

    private func write(_ indices: [Int], _ job: Job, into stats: inout [[FileStat]]) throws {
        guard !indices.isEmpty else { return }
        var writer = try TreeWriter(job, converts: false)
        for index in indices {
            try writer.write(index) { stats[$0][index] = $1 }
        }
        writer.finish()
    }

    /// Writes files with all workers. Of these the first makes the directories, in the order of the tree, and the others
    /// follow it.
    private func writeInParallel(
        _ files: [Int], _ job: Job, into stats: inout [[FileStat]],
        makingDirectories: @Sendable (_ made: (Int) -> Void) throws -> Void
    ) throws {
        let pieces = pieces(files)
        let made = Atomic<Int>(1)
        let next = Atomic<Int>(0)
        let results = Mutex<(stats: [[FileStat]], error: (any Error)?)>((stats, nil))
        stats = []
        DispatchQueue.concurrentPerform(iterations: max(1, min(workers, pieces.count))) { worker in
            func fail(_ error: any Error) { results.withLock { if $0.error == nil { $0.error = error } } }
            if worker == 0 {
                do { try makingDirectories { made.store($0, ordering: .releasing) } } catch { fail(error) }
                // The others may not wait for what will not come, and know then why it did not.
                made.store(.max, ordering: .releasing)
            }
            do {
                var writer = try TreeWriter(job, converts: conversion.isNeeded)
                var found = [FileStat](repeating: FileStat(), count: Self.largestPiece * job.tops.count)
                while true {
                    let number = next.add(1, ordering: .relaxed).oldValue
                    if number >= pieces.count || results.withLock({ $0.error != nil }) { break }
                    let piece = files[pieces[number]]
                    let places = writer.places(of: piece)
                    for (offset, index) in piece.enumerated() {
                        while made.load(ordering: .acquiring) <= flat.entries[index].directory { usleep(20) }
                        let place = places.isEmpty ? nil : places[offset]
                        try writer.write(index, at: place) { found[$0 * Self.largestPiece + offset] = $1 }
                    }
                    results.withLock { results in
                        for destination in job.tops.indices {
                            for (offset, index) in piece.enumerated() {
                                results.stats[destination][index] = found[destination * Self.largestPiece + offset]
                            }
                        }
                    }
                }
                writer.finish()
            } catch { fail(error) }
        }
        let (filled, error) = results.withLock { results in
            defer { results.stats = [] }
            return (results.stats, results.error)
        }
        if let error { throw error }
        stats = filled
    }

    private static let largestPiece = 512

    /// Cuts the work into pieces, small ones at the end, so that all workers end at once.
    ///
    /// A piece ends with a directory when that is near: the kernel makes the files of one directory one after the other,
    /// so two workers in it would wait for each other. See: linux/fs/namei.c (`lookup_open`, the parent's `i_rwsem`)
    private func pieces(_ files: [Int]) -> [Range<Int>] {
        var pieces: [Range<Int>] = []
        var start = 0
        while start < files.count {
            let size = min(Self.largestPiece / 2, max(8, (files.count - start) / (4 * workers)))
            var end = min(start + size, files.count)
            let limit = min(start + 2 * size, files.count)
            while end < limit, flat.entries[files[end]].directory == flat.entries[files[end - 1]].directory { end += 1 }
            pieces.append(start..<end)
            start = end
        }
        return pieces
    }

    private func rewriteConverted(_ indices: [Int], _ job: Job, into stats: inout [[FileStat]]) throws {
        guard !indices.isEmpty else { return }
        // All are converted before one is replaced, since each is an attribute source for the others.
        var writer = try TreeWriter(job, converts: true)
        let contents = try indices.map { try writer.convertedContent($0) }
        for (index, content) in zip(indices, contents) {
            guard let content else { continue }
            let entry = flat.entries[index]
            for top in job.tops {
                try system("unlinkat", flat.path(entry)) { flat.withPath(entry) { unlinkat(top, $0, 0) } }
            }
            try content.withUnsafeBytes { bytes in
                try writer.write(index, content: bytes) { stats[$0][index] = $1 }
            }
        }
    }

    /// What all workers of one filling share.
    struct Job {
        let checkout: Checkout
        let source: ContentCache.Source
        /// Empty when nothing has to be read.
        let packs: PackSet
        /// The destinations, open.
        let tops: [CInt]
        /// The destination that attributes are read from.
        let attributeSource: String
        /// Takes what was seen of the directories, if anybody wants to know.
        let notes: DirectoryNotes?

        init(
            _ checkout: Checkout, _ source: ContentCache.Source, tops: [CInt], attributeSource: String,
            _ notes: DirectoryNotes?
        ) {
            self.checkout = checkout
            self.source = source
            self.tops = tops
            self.attributeSource = attributeSource
            self.notes = notes
            if case .memory = source {
                packs = PackSet()
            } else {
                packs = PackSet(objects: "\(checkout.commonDir)/objects")
            }
        }
    }
}

extension Directory {
    /// Writes the index of a workdir, and beside it what is noted of the directories.
    func createIndex(of checkout: Checkout, _ filled: Checkout.Filled) throws {
        try create("index", checkout.flat.indexFile(stats: filled.stats))
        if !filled.directories.isEmpty { try create(DirectoryTimes.fileName, filled.directories.bytes) }
    }
}

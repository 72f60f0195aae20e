import CLinux
import Dispatch
import Foundation
import Git
import Glibc
import Synchronization

/// One parallel walk over the tracked directories of a workdir that compares every file with its index entry by `lstat`.
/// A directory that is as it was when the workdir was filled holds what it held then, and is not listed.
///
/// Where it holds, every tracked file is there and is what the index says, by the same trust in stat data as git's own,
/// and everything else in these directories is known. Whatever it cannot decide (a repository inside, a directory that
/// cannot be opened) makes it fail, as what ``TrackedFiles`` leaves out does, and the full inspection decides.
struct StatProof: Sendable {
    /// Something beside the tracked files: the directory itself, not what is in it.
    struct Extra: Sendable {
        /// Below the workdir, as bytes.
        let path: [UInt8]
        let isDirectory: Bool
    }

    enum Verdict: Sendable {
        /// Every tracked file is as the index says; with what else there is, in no order.
        case holds(extras: [Extra])
        /// Something is not, or cannot be decided; the words are for the log.
        case fails(String)
    }

    private let index: IndexFile
    private let layout: IndexLayout
    private let times: DirectoryTimes
    /// The workdir.
    private let top: CInt
    private let device: dev_t

    /// - Parameters:
    ///   - workdir: where the files are.
    ///   - tracked: what they should be.
    static func examine(_ workdir: String, _ tracked: TrackedFiles) throws -> Verdict {
        let top = try Directory(workdir)
        // Open to the end of the walk.
        defer { _ = top.descriptor }
        var value = stat()
        try system("fstat", workdir) { fstat(top.descriptor, &value) }
        return StatProof(
            index: tracked.index, layout: tracked.layout, times: tracked.times, top: top.descriptor,
            device: value.st_dev
        ).walk()
    }

    private static let piece = 16

    private func walk() -> Verdict {
        let next = Atomic<Int>(0)
        let result = Mutex<(extras: [Extra], failure: String?)>(([], nil))
        // More workers than cores do not help: the kernel answers from memory, or the disk is the limit.
        let workers = min(8, ProcessInfo.processInfo.activeProcessorCount, layout.folders.count)
        DispatchQueue.concurrentPerform(iterations: workers) { _ in
            var worker = Worker(self)
            // A few at a time: those that stand together have their parents in common.
            while worker.failure == nil {
                let start = next.add(Self.piece, ordering: .relaxed).oldValue
                if start >= layout.folders.count { break }
                for folder in start..<min(start + Self.piece, layout.folders.count) where worker.failure == nil {
                    worker.examine(folder)
                }
            }
            // The others have nothing to add to a failure.
            if worker.failure != nil { next.store(layout.folders.count, ordering: .relaxed) }
            result.withLock { result in
                result.extras += worker.extras
                result.failure = result.failure ?? worker.failure
            }
        }
        return result.withLock { result in
            result.failure.map { .fails($0) } ?? .holds(extras: result.extras)
        }
    }

    /// One thread's part.
    private struct Worker: ~Copyable {
        let proof: StatProof
        var extras: [Extra] = []
        var failure: String?
        private var parents = Parents()
        private var lastNote = 0
        private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)

        init(_ proof: StatProof) { self.proof = proof }

        deinit { buffer.deallocate() }

        /// - Parameter folder: its position in the layout.
        mutating func examine(_ folder: Int) {
            let range = proof.layout.folders[folder].path
            withUnsafeTemporaryAllocation(byteCount: range.count + 1, alignment: 1) { path in
                proof.index.bytes.withUnsafeBytes { path.copyMemory(from: .init(rebasing: $0[range])) }
                path[range.count] = 0
                let path = path.baseAddress!.assumingMemoryBound(to: CChar.self)
                if !compare(path, folder) { list(path, folder) }
            }
        }

        /// Compares the files of a directory that holds as many names as when it was filled, which are as many as the index
        /// has for it: when those are there, there is nothing else. Its directories are looked at in their turn.
        /// - Returns: false when the directory has to be listed.
        private mutating func compare(_ path: UnsafePointer<CChar>, _ number: Int) -> Bool {
            let folder = proof.layout.folders[number]
            if proof.times.isEmpty || folder.path.isEmpty { return false }
            var value = stat()
            let (parent, start) = parents.last(above: number, proof)
            let isOpened = folder.isWorthOpening
            let directory =
                isOpened
                ? linux_openat(parent, path + start, O_PATH_FLAG | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0) : parent
            guard directory >= 0 else { return false }
            if isOpened { parents.push(number, folder.prefix, directory) }
            let result =
                isOpened
                ? fstat(directory, &value) : fstatat(directory, path + start, &value, AT_SYMLINK_NOFOLLOW)
            guard result == 0, value.st_mode & S_IFMT == S_IFDIR, value.st_dev == proof.device,
                proof.times.count(value, near: &lastNote) == folder.count
            else { return false }
            let prefix = isOpened ? folder.prefix : start
            proof.index.bytes.withUnsafeBytes { bytes in
                proof.layout.forEachFile(in: number) { position in
                    let entry = proof.index.entries[position]
                    let name = (bytes.baseAddress! + entry.pathStart + prefix).assumingMemoryBound(to: CChar.self)
                    if fstatat(directory, name, &value, AT_SYMLINK_NOFOLLOW) == 0, Self.isSame(value, entry) {
                        return true
                    }
                    failure = "changed: \(String(decoding: proof.index.path(entry), as: UTF8.self))"
                    return false
                }
            }
            return true
        }

        /// Directories that are open, each above the next.
        private struct Parents: ~Copyable {
            private var open: [(folder: Int, prefix: Int, descriptor: CInt)] = []
            private static let most = 32

            deinit { for parent in open { close(parent.descriptor) } }

            /// Closes those that do not hold a folder.
            /// - Returns: the nearest that does, or the top, and where the path below it begins.
            mutating func last(above folder: Int, _ proof: StatProof) -> (descriptor: CInt, start: Int) {
                while let last = open.last {
                    if proof.layout.holds(last.folder, folder) { return (last.descriptor, last.prefix) }
                    close(last.descriptor)
                    open.removeLast()
                }
                return (proof.top, 0)
            }

            mutating func push(_ folder: Int, _ prefix: Int, _ descriptor: CInt) {
                // Of a tree that deep the uppermost are not needed.
                if open.count == Self.most { close(open.removeFirst().descriptor) }
                open.append((folder, prefix, descriptor))
            }
        }

        private mutating func list(_ name: UnsafePointer<CChar>, _ folder: Int) {
            let path = Array(proof.index.bytes[proof.layout.folders[folder].path])
            let expected = proof.layout.folders[folder].fileCount
            let directory = Self.open(name, below: proof.top)
            guard directory >= 0 else {
                failure = "\(String(decoding: path, as: UTF8.self)): \(String(cString: strerror(errno)))"
                return
            }
            defer { close(directory) }
            var found = 0
            while true {
                let size = linux_getdents64(directory, buffer.baseAddress!, buffer.count)
                if size < 0 { failure = "getdents64: \(String(cString: strerror(errno)))" }
                if size <= 0 || failure != nil { break }
                found += take(size, directory, folder, path)
            }
            if failure == nil, found != expected {
                failure = "\(expected - found) file(s) missing in \(String(decoding: path, as: UTF8.self))"
            }
        }

        /// Through no symbolic link and no mount. Where the kernel has no openat2, nothing is proved.
        private static func open(_ name: UnsafePointer<CChar>, below top: CInt) -> CInt {
            let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
            if name.pointee == 0 { return linux_openat(top, ".", flags, 0) }
            for _ in 0..<100 {
                let result = linux_openat2(top, name, UInt64(flags), 0, LINUX_RESOLVE_BENEATH_STRICT)
                // A rename elsewhere made the kernel's check inconclusive. See: man 2 openat2 (EAGAIN)
                if result >= 0 || (Glibc.errno != EAGAIN && Glibc.errno != EINTR) { return result }
            }
            return -1
        }

        /// Looks at records of a directory: `ino` 8 bytes, `off` 8, `reclen` 2, `type` 1, name. See: man 2 getdents64
        /// - Returns: how many tracked files were among them.
        private mutating func take(
            _ size: Int, _ directory: CInt, _ folder: Int, _ path: [UInt8]
        ) -> Int {
            var found = 0
            var offset = 0
            while offset < size, failure == nil {
                let record = UnsafeRawPointer(buffer.baseAddress!) + offset
                offset += Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
                let text = (record + 19).assumingMemoryBound(to: CChar.self)
                let name = UnsafeRawBufferPointer(start: text, count: strlen(text))
                if name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8) { continue }
                if name.elementsEqual(".git".utf8) {
                    // The link to the admin entry. A repository inside is nothing to decide here.
                    if !path.isEmpty { failure = "a repository in \(String(decoding: path, as: UTF8.self))" }
                    continue
                }
                var type = record.load(fromByteOffset: 18, as: UInt8.self)
                var value = stat()
                var isKnown = false
                if type == UInt8(DT_UNKNOWN) {
                    isKnown = fstatat(directory, text, &value, AT_SYMLINK_NOFOLLOW) == 0
                    type = isKnown && value.st_mode & S_IFMT == S_IFDIR ? UInt8(DT_DIR) : UInt8(DT_REG)
                }
                if type == UInt8(DT_DIR) {
                    if proof.layout.hasFolder(name, in: folder, of: proof.index) { continue }
                } else if let position = proof.layout.file(name, in: folder, of: proof.index) {
                    let entry = proof.index.entries[position]
                    guard isKnown || fstatat(directory, text, &value, AT_SYMLINK_NOFOLLOW) == 0,
                        Self.isSame(value, entry)
                    else {
                        failure = "changed: \(String(decoding: proof.index.path(entry), as: UTF8.self))"
                        break
                    }
                    found += 1
                    continue
                }
                extras.append(
                    Extra(
                        path: (path.isEmpty ? [] : path + [UInt8(ascii: "/")]) + Array(name),
                        isDirectory: type == UInt8(DT_DIR)))
            }
            return found
        }

        private static func isSame(_ value: stat, _ entry: IndexFile.Entry) -> Bool {
            let kind: mode_t =
                switch entry.mode {
                case 0o100644, 0o100755: S_IFREG
                case 0o120000: S_IFLNK
                default: 0
                }
            guard value.st_mode & S_IFMT == kind, entry.stat.matches(FileStat(value)) else { return false }
            return kind == S_IFLNK || (value.st_mode & 0o100 != 0) == (entry.mode & 0o100 != 0)
        }
    }
}

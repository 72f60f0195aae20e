import CLinux
import Git
import Glibc
import SystemPackage

/// Turns the files of one tree into those of another by their difference: removes what is gone or differs, then writes
/// what is new or differs, as the checkout writes it. What is equal is not looked at.
///
/// For a verified slot in the stage that nobody else uses, and trees without conversions only: with those the bytes of a
/// file may change although its blob does not.
struct BringForward {
    private let checkout: Checkout
    private let new: FlatTree
    private let old: IndexFile
    /// Entries of the old tree that go, in its order.
    private var gone: [Int] = []
    /// Entries of the new tree that are written, in its order.
    private var written: [Int] = []
    /// One for each entry of the new tree; those to be written are filled in later.
    private var stats: [FileStat] = []

    /// Compares the trees. Both lists are in index order, so one walk does.
    init(commonDir: String, from old: IndexFile, to new: FlatTree) {
        self.new = new
        self.old = old
        checkout = Checkout(commonDir: commonDir, flat: new, conversion: .none, workers: 1)
        stats.reserveCapacity(new.entries.count)
        var position = 0
        for (index, entry) in new.entries.enumerated() {
            let path = new.path(bytes: entry)
            while position < old.entries.count, old.path(old.entries[position]).precedes(path) {
                gone.append(position)
                position += 1
            }
            if position < old.entries.count, old.path(old.entries[position]).elementsEqual(path) {
                let before = old.entries[position]
                if before.id == entry.id, before.mode == entry.mode {
                    stats.append(before.stat)
                    position += 1
                    continue
                }
                gone.append(position)
                position += 1
            }
            stats.append(FileStat())
            written.append(index)
        }
        gone += position..<old.entries.count
    }

    /// Less work than a checkout, which writes everything, but with several threads.
    var isWorthwhile: Bool { written.count <= 100 || written.count < new.entries.count / 3 }

    /// Changes the files below `top`.
    /// - Returns: what `lstat` says of each entry of the new tree, in its order.
    /// - Throws: the first error; the directory is then of no use any more.
    mutating func run(_ top: borrowing Directory) throws -> [FileStat] {
        var parents = Parents(top.descriptor)
        for position in gone {
            let entry = old.entries[position]
            let path = old.path(entry)
            let (parent, name) = try parents.enter(path)
            try system("unlinkat", text(path)) { unlinkat(parent, name, entry.isSubmodule ? AT_REMOVEDIR : 0) }
        }
        try removeDirectories(top.descriptor)
        let made = try checkout.write(written, below: top.path)
        for index in written { stats[index] = made[index] }
        return stats
    }

    /// Those that held old files and hold none of the new tree, from below.
    private func removeDirectories(_ top: CInt) throws {
        let kept = Set(
            zip(new.directories, new.directories(holding: new.entries.indices)).lazy.filter(\.1)
                .map { new.path(bytes: $0.0) })
        var directories = Set<ArraySlice<UInt8>>()
        for position in gone {
            var path = old.path(old.entries[position])
            while let slash = path.lastIndex(of: UInt8(ascii: "/")) {
                path = path[..<slash]
                if kept.contains(path) || !directories.insert(path).inserted { break }
            }
        }
        for path in directories.sorted(by: { $0.count > $1.count }) {
            try system("unlinkat", text(path)) { unlinkat(top, cString(path), AT_REMOVEDIR) }
        }
    }

    /// Keeps the directory open that was used last: entries of one stand together.
    private struct Parents: ~Copyable {
        private let top: CInt
        private var current: (path: ArraySlice<UInt8>, descriptor: CInt)?

        init(_ top: CInt) { self.top = top }

        deinit { if let current { close(current.descriptor) } }

        /// The directory of a path, through no symbolic link, and the last component.
        mutating func enter(_ path: ArraySlice<UInt8>) throws(SystemError) -> (CInt, [CChar]) {
            guard let slash = path.lastIndex(of: UInt8(ascii: "/")) else { return (top, cString(path)) }
            let name = cString(path[path.index(after: slash)...])
            if let current, current.path == path[..<slash] { return (current.descriptor, name) }
            if let current { close(current.descriptor) }
            current = nil
            let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
            let parent = path[..<slash]
            let opened = try system("openat2", text(parent)) {
                let result = linux_openat2(top, cString(parent), UInt64(flags), 0, LINUX_RESOLVE_BENEATH_STRICT)
                // A kernel or a filter without it; what lies in the stage was verified and is private.
                guard result < 0, Glibc.errno == ENOSYS || Glibc.errno == EPERM else { return result }
                return linux_openat(top, cString(parent), flags, 0)
            }
            current = (parent, opened)
            return (opened, name)
        }
    }
}

extension FlatTree {
    fileprivate func path(bytes entry: Entry) -> ArraySlice<UInt8> {
        bytes[entry.pathStart..<(entry.pathStart + entry.pathLength)]
    }
}

extension ArraySlice<UInt8> {
    /// The order of an index. See: git `Documentation/gitformat-index` ("sorted in ascending order on the name field")
    fileprivate func precedes(_ other: ArraySlice<UInt8>) -> Bool { lexicographicallyPrecedes(other) }
}

private func cString(_ path: ArraySlice<UInt8>) -> [CChar] { path.map(CChar.init(bitPattern:)) + [0] }
private func text(_ path: ArraySlice<UInt8>) -> String { String(decoding: path, as: UTF8.self) }

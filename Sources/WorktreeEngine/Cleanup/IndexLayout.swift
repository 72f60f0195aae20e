import Git
import Glibc

/// The entries of an index by the directory that holds them.
///
/// The index is sorted by path bytes, so all that a directory holds stands together, and one pass finds every directory.
/// A path with a component that git would not check out, such as `..`, makes it no layout at all.
struct IndexLayout: Sendable {
    struct Folder: Sendable {
        /// Its path in ``IndexFile/bytes``, without a slash at its end; empty for the top.
        let path: Range<Int>
        /// Its own files, as a range of ``files``.
        fileprivate(set) var files = 0..<0
        /// Its own directories, as a range of ``subfolders``.
        fileprivate(set) var folders = 0..<0

        /// How many names the index has for it: of files and of directories.
        var count: Int { files.count + folders.count }

        /// Whether names in it are found faster below its descriptor than by their paths. Opening and closing it costs as
        /// much as looking up a few components; a directory in it stands for several names further below.
        var isWorthOpening: Bool { files.count + 2 * folders.count > 5 }

        /// How many bytes stand before a name in the path of what it holds.
        var prefix: Int { path.isEmpty ? 0 : path.count + 1 }
    }

    /// The first is the top.
    let folders: [Folder]
    /// Positions in ``IndexFile/entries``, in ascending order of names within a folder.
    private let files: [Int]
    /// Positions in ``folders``, in ascending order of names with a slash at their end within a folder.
    private let subfolders: [Int]

    init?(_ index: IndexFile) {
        var folders = [Folder(path: 0..<0)]
        var parents = [0]
        var owners: [Int] = []
        owners.reserveCapacity(index.entries.count)
        let isRegular = index.bytes.withUnsafeBytes { bytes in
            var chain = [0]
            for entry in index.entries {
                let path = bytes.baseAddress! + entry.pathStart
                while chain.count > 1, !Self.holds(folders[chain[chain.count - 1]], path, entry.pathLength, bytes) {
                    chain.removeLast()
                }
                var start = folders[chain[chain.count - 1]].prefix
                while let slash = memchr(path + start, 47, entry.pathLength - start) {
                    let length = UnsafeRawPointer(slash) - path
                    guard Self.isName(path + start, length - start) else { return false }
                    parents.append(chain[chain.count - 1])
                    chain.append(folders.count)
                    folders.append(Folder(path: entry.pathStart..<(entry.pathStart + length)))
                    start = length + 1
                }
                guard Self.isName(path + start, entry.pathLength - start) else { return false }
                owners.append(chain[chain.count - 1])
            }
            return true
        }
        guard isRegular else { return nil }
        let (files, fileRanges) = Self.grouped(owners, groups: folders.count)
        // The top is nobody's.
        let (subfolders, folderRanges) = Self.grouped(Array(parents.dropFirst()), groups: folders.count)
        for position in folders.indices {
            folders[position].files = fileRanges[position]
            folders[position].folders = folderRanges[position]
        }
        self.folders = folders
        self.files = files
        self.subfolders = subfolders.map { $0 + 1 }
    }

    /// Not empty, `.`, `..` or `.git`, each of which leads elsewhere than to what a directory lists.
    private static func isName(_ name: UnsafeRawPointer, _ length: Int) -> Bool {
        guard length > 0 else { return false }
        guard name.load(as: UInt8.self) == UInt8(ascii: ".") else { return true }
        let others: [StaticString] = [".", "..", ".git"]
        return !others.contains { $0.utf8CodeUnitCount == length && memcmp(name, $0.utf8Start, length) == 0 }
    }

    private static func holds(
        _ folder: Folder, _ path: UnsafeRawPointer, _ length: Int, _ bytes: UnsafeRawBufferPointer
    ) -> Bool {
        let prefix = folder.path.count
        return length > prefix && path.load(fromByteOffset: prefix, as: UInt8.self) == 47
            && memcmp(path, bytes.baseAddress! + folder.path.lowerBound, prefix) == 0
    }

    /// Whether a folder holds another one, directly or further below.
    func holds(_ folder: Folder, _ other: Folder, of index: IndexFile) -> Bool {
        index.bytes.withUnsafeBytes {
            Self.holds(folder, $0.baseAddress! + other.path.lowerBound, other.path.count, $0)
        }
    }

    /// Positions sorted by their group, in stable order, and the range of each group.
    private static func grouped(_ owners: [Int], groups: Int) -> ([Int], [Range<Int>]) {
        var ends = [Int](repeating: 0, count: groups)
        for owner in owners { ends[owner] += 1 }
        var total = 0
        var ranges: [Range<Int>] = []
        for group in 0..<groups {
            ranges.append(total..<(total + ends[group]))
            total += ends[group]
        }
        var next = ranges.map(\.lowerBound)
        var sorted = [Int](repeating: 0, count: owners.count)
        for (position, owner) in owners.enumerated() {
            sorted[next[owner]] = position
            next[owner] += 1
        }
        return (sorted, ranges)
    }

    /// Gives every file of a folder to `body`, until that returns false.
    func forEachFile(in folder: Folder, of index: IndexFile, _ body: (IndexFile.Entry) -> Bool) {
        for position in folder.files where !body(index.entries[files[position]]) { return }
    }

    /// The entry of a file in a folder; nil when there is none of this name.
    func file(_ name: UnsafeRawBufferPointer, in folder: Folder, of index: IndexFile) -> IndexFile.Entry? {
        let found = Self.search(folder.files, name, terminator: 0) { position in
            let entry = index.entries[files[position]]
            return (entry.pathStart + folder.prefix)..<(entry.pathStart + entry.pathLength)
        } bytes: {
            index.bytes
        }
        return found.map { index.entries[files[$0]] }
    }

    /// Whether a folder holds a folder of this name.
    func hasFolder(_ name: UnsafeRawBufferPointer, in folder: Folder, of index: IndexFile) -> Bool {
        Self.search(folder.folders, name, terminator: 47) { position in
            let path = folders[subfolders[position]].path
            return (path.lowerBound + folder.prefix)..<path.upperBound
        } bytes: {
            index.bytes
        } != nil
    }

    /// Binary search; a name that is the beginning of another is compared by the byte that follows it in the index.
    private static func search(
        _ range: Range<Int>, _ name: UnsafeRawBufferPointer, terminator: UInt8, at place: (Int) -> Range<Int>,
        bytes: () -> [UInt8]
    ) -> Int? {
        bytes().withUnsafeBytes { bytes in
            var (low, high) = (range.lowerBound, range.upperBound)
            while low < high {
                let middle = low + (high - low) / 2
                let other = UnsafeRawBufferPointer(rebasing: bytes[place(middle)])
                let common = min(name.count, other.count)
                var order = Int(memcmp(name.baseAddress!, other.baseAddress!, common))
                if order == 0, name.count != other.count {
                    order =
                        name.count < other.count
                        ? Int(terminator) - Int(other[common]) : Int(name[common]) - Int(terminator)
                }
                if order == 0 { return middle }
                if order < 0 { high = middle } else { low = middle + 1 }
            }
            return nil
        }
    }
}

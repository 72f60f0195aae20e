import Git
import Glibc

/// The directories of an index.
///
/// The index is sorted by path bytes, so all that a directory holds, at any depth, stands together, and one pass finds
/// every directory. A path with a component that git would not check out, such as `..`, makes it no layout at all.
struct IndexLayout: Sendable {
    struct Folder: Sendable {
        /// Its path in ``IndexFile/bytes``, without a slash at its end; empty for the top.
        let path: Range<Int>
        /// Positions in ``IndexFile/entries`` of all that lies below it.
        fileprivate(set) var entries: Range<Int>
        /// The folders below it follow it, up to this position in ``IndexLayout/folders``.
        fileprivate(set) var end = 0
        /// How many files it holds itself.
        fileprivate(set) var fileCount = 0
        /// How many directories it holds itself.
        fileprivate(set) var folderCount = 0

        /// How many names the index has for it: of files and of directories.
        var count: Int { fileCount + folderCount }

        /// Whether names in it are found faster below its descriptor than by their paths. Opening and closing it costs as
        /// much as looking up a few components; a directory in it stands for several names further below.
        var isWorthOpening: Bool { fileCount + 2 * folderCount > 5 }

        /// How many bytes stand before a name in the path of what it holds.
        var prefix: Int { path.isEmpty ? 0 : path.count + 1 }
    }

    /// In the order of the index, each before those below it. The first is the top.
    let folders: [Folder]

    init?(_ index: IndexFile) {
        var pass = Pass(entryCount: index.entries.count)
        let isRegular = index.bytes.withUnsafeBytes { bytes in
            for position in index.entries.indices {
                guard pass.add(position, index.entries.path(at: position), bytes) else { return false }
            }
            return true
        }
        guard isRegular else { return nil }
        pass.leaveAll()
        folders = pass.folders
    }

    /// The one pass over all entries.
    private struct Pass {
        var folders: [Folder]
        private let entryCount: Int
        /// The folders that hold the last entry, each above the next.
        private var chain = [0]
        /// Where the path of the last entry lies.
        private var last = 0..<0

        init(entryCount: Int) {
            folders = [Folder(path: 0..<0, entries: 0..<entryCount)]
            self.entryCount = entryCount
        }

        /// - Returns: false for a path that git would not check out.
        mutating func add(_ position: Int, _ range: Range<Int>, _ bytes: UnsafeRawBufferPointer) -> Bool {
            let path = bytes.baseAddress! + range.lowerBound
            // A folder holds this entry as well if its path and the slash after it are common to both.
            let common = Self.common(bytes[last], bytes[range])
            last = range
            var current = chain[chain.count - 1]
            while current != 0, folders[current].path.count >= common {
                leave(before: position)
                current = chain[chain.count - 1]
            }
            var start = folders[current].prefix
            while let slash = memchr(path + start, 47, range.count - start) {
                let length = UnsafeRawPointer(slash) - path
                guard IndexLayout.isName(path + start, length - start) else { return false }
                folders[current].folderCount += 1
                current = folders.count
                chain.append(current)
                let own = range.lowerBound..<(range.lowerBound + length)
                folders.append(Folder(path: own, entries: position..<entryCount))
                start = length + 1
            }
            folders[current].fileCount += 1
            return IndexLayout.isName(path + start, range.count - start)
        }

        /// How many bytes two paths have in common at their beginning.
        private static func common(_ one: Slice<UnsafeRawBufferPointer>, _ other: Slice<UnsafeRawBufferPointer>) -> Int
        {
            let (one, other) = (UnsafeRawBufferPointer(rebasing: one), UnsafeRawBufferPointer(rebasing: other))
            let limit = min(one.count, other.count)
            var count = 0
            while count + 8 <= limit {
                let difference =
                    one.loadUnaligned(fromByteOffset: count, as: UInt64.self).littleEndian
                    ^ other.loadUnaligned(fromByteOffset: count, as: UInt64.self).littleEndian
                if difference != 0 { return count + difference.trailingZeroBitCount / 8 }
                count += 8
            }
            while count < limit, one[count] == other[count] { count += 1 }
            return count
        }

        private mutating func leave(before position: Int) {
            let last = chain.removeLast()
            folders[last].entries = folders[last].entries.lowerBound..<position
            folders[last].end = folders.count
        }

        mutating func leaveAll() {
            while !chain.isEmpty { leave(before: entryCount) }
        }
    }

    /// Not empty, `.`, `..` or `.git`, each of which leads elsewhere than to what a directory lists.
    private static func isName(_ name: UnsafeRawPointer, _ length: Int) -> Bool {
        guard length > 0 else { return false }
        guard name.load(as: UInt8.self) == UInt8(ascii: ".") else { return true }
        let others: [StaticString] = [".", "..", ".git"]
        return !others.contains { $0.utf8CodeUnitCount == length && memcmp(name, $0.utf8Start, length) == 0 }
    }

    /// Whether a folder holds another one, directly or further below, by their positions.
    func holds(_ folder: Int, _ other: Int) -> Bool { folder < other && other < folders[folder].end }

    /// Gives every file of a folder itself to `body`, by its position in the index, until that returns false.
    func forEachFile(in folder: Int, _ body: (Int) -> Bool) {
        var position = folders[folder].entries.lowerBound
        var below = folder + 1
        while position < folders[folder].entries.upperBound {
            if below < folders[folder].end, folders[below].entries.lowerBound == position {
                position = folders[below].entries.upperBound
                below = folders[below].end
            } else if body(position) {
                position += 1
            } else {
                return
            }
        }
    }

    /// The position in the index of a file in a folder; nil when there is none of this name.
    func file(_ name: UnsafeRawBufferPointer, in folder: Int, of index: IndexFile) -> Int? {
        first(name, terminator: 0, in: folder, of: index)
    }

    /// Whether a folder holds a folder of this name.
    func hasFolder(_ name: UnsafeRawBufferPointer, in folder: Int, of index: IndexFile) -> Bool {
        first(name, terminator: 47, in: folder, of: index) != nil
    }

    /// Binary search of the first entry that goes on with a name and the byte after it, which is the NUL of a file.
    private func first(
        _ name: UnsafeRawBufferPointer, terminator: UInt8, in folder: Int, of index: IndexFile
    ) -> Int? {
        index.bytes.withUnsafeBytes { bytes in
            /// How the entry's path below the folder, up to the length of the name, compares with it.
            func order(_ position: Int) -> Int {
                let path = index.entries.path(at: position)
                let start = path.lowerBound + folders[folder].prefix
                // Its NUL ends the comparison of a path that is shorter: no name holds one.
                let common = min(name.count, path.upperBound + 1 - start)
                let order = Int(memcmp(bytes.baseAddress! + start, name.baseAddress!, common))
                return order != 0 ? order : Int(bytes[start + common]) - Int(terminator)
            }
            var (low, high) = (folders[folder].entries.lowerBound, folders[folder].entries.upperBound)
            while low < high {
                let middle = low + (high - low) / 2
                if order(middle) < 0 { low = middle + 1 } else { high = middle }
            }
            return low < folders[folder].entries.upperBound && order(low) == 0 ? low : nil
        }
    }
}

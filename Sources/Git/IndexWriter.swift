import CLibCrypto
import CLibGit2
import Foundation
import Glibc

extension FlatTree {
    /// The index file of a fresh checkout: version 2, every entry at stage 0 with its stat data, and a full cache-tree,
    /// which spares the first `git status` the comparison with HEAD.
    ///
    /// libgit2's own writing takes a multiple of the time: it sorts what is sorted, and looks each entry up.
    /// See: man gitformat-index; git `read-cache.c` (`ce_write_entry`), `cache-tree.c` (`write_one`)
    /// - Parameter stats: one for each entry, in its order.
    public func indexFile(stats: [FileStat]) -> [UInt8] {
        precondition(stats.count == entries.count, "one stat for each entry")
        let cacheTree = cacheTree()
        let size =
            entries.reduce(12) { $0 + IndexEntry.size($1.pathLength) } + 8 + cacheTree.count
            + Int(SHA_DIGEST_LENGTH)
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            var writer = ByteWriter(UnsafeMutableRawBufferPointer(buffer))
            writer.write("DIRC".utf8)
            writer.write(UInt32(2))
            writer.write(UInt32(entries.count))
            bytes.withUnsafeBytes { paths in
                for (entry, stat) in zip(entries, stats) { writer.write(entry, stat, paths) }
            }
            writer.write("TREE".utf8)
            writer.write(UInt32(cacheTree.count))
            writer.write(cacheTree)
            writer.writeChecksum()
            count = writer.count
        }
    }

    /// One record for each directory, depth first: `name NUL entries SP subtrees LF id`.
    private func cacheTree() -> [UInt8] {
        var counts = [Int](repeating: 0, count: directories.count)
        var subtrees = counts
        for entry in entries { counts[entry.directory] += 1 }
        // Parents come first, so that going backwards each count is complete before it is added.
        for index in directories.indices.dropFirst().reversed() {
            counts[directories[index].directory] += counts[index]
            subtrees[directories[index].directory] += 1
        }
        var records: [UInt8] = []
        records.reserveCapacity(directories.count * 64)
        for (index, directory) in directories.enumerated() {
            records += bytes[directory.nameStart..<(directory.pathStart + directory.pathLength)]
            records += "\0\(counts[index]) \(subtrees[index])\n".utf8
            withUnsafeBytes(of: directory.id.raw.id) { records += $0 }
        }
        return records
    }
}

/// The sizes of an entry of version 2. See: man gitformat-index
private enum IndexEntry {
    /// Stat data, id and flags.
    static let headSize = 62

    /// With the path and one to eight NULs, up to a multiple of eight.
    static func size(_ pathLength: Int) -> Int { (headSize + pathLength + 8) & ~7 }
}

/// Fills a block of memory in network order. Whoever makes it has counted what will be written; more than that traps.
private struct ByteWriter {
    private let bytes: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }

    mutating func write(_ value: UInt32) { withUnsafeBytes(of: value.bigEndian) { write($0) } }

    mutating func write(_ more: some Sequence<UInt8>) { for byte in more { write(byte) } }

    private mutating func write(_ byte: UInt8) {
        bytes[count] = byte
        count += 1
    }

    private mutating func write(_ more: UnsafeRawBufferPointer) {
        precondition(more.count <= bytes.count - count, "the size was counted before")
        guard let start = more.baseAddress else { return }
        memcpy(bytes.baseAddress! + count, start, more.count)
        count += more.count
    }

    /// Appends the SHA-1 of everything written so far.
    mutating func writeChecksum() {
        let size = Int(SHA_DIGEST_LENGTH)
        precondition(size <= bytes.count - count, "no room for the checksum")
        let end = bytes.baseAddress! + count
        wt_sha1(bytes.baseAddress, count, end.assumingMemoryBound(to: UInt8.self))
        count += size
    }

    mutating func write(_ entry: FlatTree.Entry, _ stat: FileStat, _ paths: UnsafeRawBufferPointer) {
        let end = count + IndexEntry.size(entry.pathLength)
        let fields = (
            UInt32(bitPattern: stat.ctimeSeconds).bigEndian, stat.ctimeNanoseconds.bigEndian,
            UInt32(bitPattern: stat.mtimeSeconds).bigEndian, stat.mtimeNanoseconds.bigEndian,
            stat.device.bigEndian, stat.inode.bigEndian, entry.mode.bigEndian, stat.user.bigEndian,
            stat.group.bigEndian, stat.size.bigEndian
        )
        withUnsafeBytes(of: fields) { write($0) }
        withUnsafeBytes(of: entry.id.raw.id) { write($0) }
        // Only the length; a longer path says 0xfff, and is ended by its NUL. See: git `read-cache.c` (CE_NAMEMASK)
        withUnsafeBytes(of: UInt16(min(entry.pathLength, 0xfff)).bigEndian) { write($0) }
        write(UnsafeRawBufferPointer(rebasing: paths[entry.pathStart..<(entry.pathStart + entry.pathLength)]))
        while count < end { write(0 as UInt8) }
    }
}

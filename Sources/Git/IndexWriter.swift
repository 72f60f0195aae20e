import CLibGit2
import Crypto
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
        let paths = entries.reduce(0) { $0 + $1.pathLength }
        var writer = ByteWriter(capacity: 12 + entries.count * 70 + paths + directories.count * 64 + 64)
        writer.write("DIRC".utf8)
        writer.write(UInt32(2))
        writer.write(UInt32(entries.count))
        bytes.withUnsafeBytes { bytes in
            for (entry, stat) in zip(entries, stats) { writer.write(entry, stat, bytes) }
            writer.write("TREE".utf8)
            let sizeAt = writer.count
            writer.write(UInt32(0))
            writeCacheTree(bytes, into: &writer)
            writer.overwrite(UInt32(writer.count - sizeAt - 4), at: sizeAt)
        }
        return writer.finish()
    }

    /// One record for each directory, depth first: `name NUL entries SP subtrees LF id`.
    private func writeCacheTree(_ bytes: UnsafeRawBufferPointer, into writer: inout ByteWriter) {
        var counts = [Int](repeating: 0, count: directories.count)
        var subtrees = counts
        for entry in entries { counts[entry.directory] += 1 }
        // Parents come first, so that going backwards each count is complete before it is added.
        for index in directories.indices.dropFirst().reversed() {
            counts[directories[index].directory] += counts[index]
            subtrees[directories[index].directory] += 1
        }
        for (index, directory) in directories.enumerated() {
            let name = directory.nameStart..<(directory.pathStart + directory.pathLength)
            writer.write(UnsafeRawBufferPointer(rebasing: bytes[name]))
            writer.write("\0\(counts[index]) \(subtrees[index])\n".utf8)
            writer.write(directory.id)
        }
    }
}

/// Appends to a block of memory in network order.
private struct ByteWriter {
    private var bytes: [UInt8] = []

    init(capacity: Int) { bytes.reserveCapacity(capacity) }

    var count: Int { bytes.count }

    mutating func write(_ value: UInt32) { withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) } }
    mutating func write(_ text: String.UTF8View) { bytes.append(contentsOf: text) }
    mutating func write(_ more: UnsafeRawBufferPointer) { bytes.append(contentsOf: more) }
    mutating func write(_ id: ObjectID) { withUnsafeBytes(of: id.raw.id) { bytes.append(contentsOf: $0) } }

    mutating func overwrite(_ value: UInt32, at offset: Int) {
        withUnsafeBytes(of: value.bigEndian) { for (index, byte) in $0.enumerated() { bytes[offset + index] = byte } }
    }

    mutating func write(_ entry: FlatTree.Entry, _ stat: FileStat, _ paths: UnsafeRawBufferPointer) {
        let fields = (
            UInt32(bitPattern: stat.ctimeSeconds).bigEndian, stat.ctimeNanoseconds.bigEndian,
            UInt32(bitPattern: stat.mtimeSeconds).bigEndian, stat.mtimeNanoseconds.bigEndian,
            stat.device.bigEndian, stat.inode.bigEndian, entry.mode.bigEndian, stat.user.bigEndian,
            stat.group.bigEndian, stat.size.bigEndian
        )
        withUnsafeBytes(of: fields) { bytes.append(contentsOf: $0) }
        write(entry.id)
        // Only the length; a longer path says 0xfff, and is ended by its NUL. See: git `read-cache.c` (CE_NAMEMASK)
        withUnsafeBytes(of: UInt16(min(entry.pathLength, 0xfff)).bigEndian) { bytes.append(contentsOf: $0) }
        write(UnsafeRawBufferPointer(rebasing: paths[entry.pathStart..<(entry.pathStart + entry.pathLength)]))
        // One to eight NULs, up to a multiple of eight.
        let zeros = 8 - (62 + entry.pathLength) % 8
        bytes.append(contentsOf: repeatElement(0, count: zeros))
    }

    consuming func finish() -> [UInt8] {
        let digest = Insecure.SHA1.hash(data: bytes)
        digest.withUnsafeBytes { bytes.append(contentsOf: $0) }
        return bytes
    }
}

import Glibc

/// Reads the parts of an index out of memory. No read goes past `end`, whatever the content says.
struct IndexParser {
    var places: [IndexFile.Place] = []
    var paths: [UInt8] = []
    var isPlain = true
    var latestSeconds: UInt32 = 0
    var rootTree: ObjectID?
    var version = 0
    var problem = "the index is damaged"

    /// - Returns: false when the content is damaged or not understood; `problem` says how.
    mutating func parse(_ content: UnsafeRawBufferPointer) -> Bool {
        // `DIRC`, version, count, ..., SHA-1 of all that.
        guard (32...Int(UInt32.max)).contains(content.count), word(content, 0) == 0x4449_5243 else { return false }
        let end = content.count - 20
        version = Int(word(content, 4))
        guard (2...4).contains(version) else {
            problem = "index version \(version)"
            return false
        }
        let count = Int(word(content, 8))
        // A count that cannot be there would only reserve memory.
        guard count <= end / 62 else { return false }
        places.reserveCapacity(count)
        if version == 4 { paths.reserveCapacity(count * 64) }
        var offset = 12
        var last = Last()
        for _ in 0..<count {
            guard let next = entry(content, at: offset, end: end, after: &last) else { return false }
            offset = next
        }
        return extensions(content, from: offset, end: end)
    }

    /// No path of more than PATH_MAX bytes can stand in a workdir, and with version 4 a small index could name gigabytes.
    private static let longestPath = 2 * Int(PATH_MAX)

    /// - Returns: where the next entry begins; nil when this one is damaged.
    private mutating func entry(
        _ content: UnsafeRawBufferPointer, at offset: Int, end: Int, after last: inout Last
    ) -> Int? {
        var name = offset + 62
        guard name < end else { return nil }
        let flags = half(content, offset + 60)
        var extended: UInt16 = 0
        if flags & 0x4000 != 0 {
            guard version >= 3, name + 2 < end else { return nil }
            extended = half(content, name)
            // Only skip-worktree and intent-to-add are known. See: git `read-cache-ll.h` (CE_EXTENDED_FLAGS)
            guard extended & ~0x6000 == 0 else { return nil }
            name += 2
        }
        var kept = 0
        if version == 4 {
            guard let strip = varint(content, at: &name, end: end), strip <= last.length else { return nil }
            kept = last.length - strip
        }
        guard name < end, let nul = memchr(content.baseAddress! + name, 0, end - name) else { return nil }
        let tail = UnsafeRawPointer(nul) - (content.baseAddress! + name)
        let length = kept + tail
        guard length > 0, length < Self.longestPath, Int(flags & 0xFFF) == min(length, 0xFFF) else { return nil }
        var start = name
        if version == 4 {
            start = paths.count
            guard start + length < UInt32.max else { return nil }
            for position in last.start..<(last.start + kept) { paths.append(paths[position]) }
            paths.append(contentsOf: UnsafeRawBufferPointer(rebasing: content[name...(name + tail)]))
        }
        let made = Last(start: start, length: length, stage: Int(flags >> 12 & 3))
        let isOrdered =
            version == 4
            ? paths.withUnsafeBytes { last.precedes(made, $0.baseAddress!) }
            : last.precedes(made, content.baseAddress!)
        guard isOrdered else { return nil }
        last = made
        isPlain = isPlain && IndexFile.Entry.isPlain(flags, extended, word(content, offset + 24))
        latestSeconds = max(latestSeconds, word(content, offset + 8))
        places.append(
            IndexFile.Place(record: UInt32(offset), pathStart: UInt32(start), pathLength: UInt32(length)))
        // 1 to 8 NULs, so that the next entry begins at a multiple of 8; version 4 has just one.
        return version == 4 ? name + tail + 1 : offset + ((name + tail - offset + 8) & ~7)
    }

    /// The entry before the one that is read; the first has an empty path before it.
    private struct Last {
        var start = 0
        var length = 0
        var stage = 0

        /// Strictly ascending, as git insists too. See: git `read-cache.c` (`check_ce_order`)
        func precedes(_ next: Last, _ base: UnsafeRawPointer) -> Bool {
            let order = memcmp(base + start, base + next.start, min(length, next.length))
            if order != 0 { return order < 0 }
            if length != next.length { return length < next.length }
            return stage > 0 && stage < next.stage
        }
    }

    private mutating func extensions(_ content: UnsafeRawBufferPointer, from start: Int, end: Int) -> Bool {
        var offset = start
        while offset < end {
            guard end - offset >= 8 else { return false }
            let signature = word(content, offset)
            let size = Int(word(content, offset + 4))
            guard size <= end - offset - 8 else { return false }
            // An upper-case first letter marks what a reader may skip.
            guard (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(content[offset]) else {
                problem = "index extension \(String(decoding: content[offset..<(offset + 4)], as: UTF8.self))"
                return false
            }
            if signature == 0x5452_4545 {  // TREE
                rootTree = root(UnsafeRawBufferPointer(rebasing: content[(offset + 8)..<(offset + 8 + size)]))
            }
            offset += 8 + size
        }
        return offset == end
    }

    /// The first record of a cache-tree: `NUL <entries> SP <subtrees> LF <id>`; no id and -1 entries when it is not valid.
    private func root(_ tree: UnsafeRawBufferPointer) -> ObjectID? {
        let lineEnd = tree.prefix(32).firstIndex(of: UInt8(ascii: "\n"))
        guard tree.first == 0, let lineEnd, tree.count >= lineEnd + 21 else { return nil }
        let numbers = String(decoding: tree[1..<lineEnd], as: UTF8.self).split(separator: " ")
        // A valid one covers every entry.
        guard numbers.count == 2, Int(numbers[0]) == places.count else { return nil }
        return ObjectID(bytes: tree.baseAddress! + lineEnd + 1)
    }

    /// See: git `varint.c` (`decode_varint`)
    private func varint(_ content: UnsafeRawBufferPointer, at offset: inout Int, end: Int) -> Int? {
        var value = 0
        var isFirst = true
        while offset < end, value < 1 << 40 {
            let byte = content[offset]
            offset += 1
            value = (isFirst ? 0 : (value + 1) << 7) + Int(byte & 127)
            if byte & 128 == 0 { return value }
            isFirst = false
        }
        return nil
    }
}

extension IndexFile.Entry {
    /// The parser has seen the whole record.
    init(_ place: IndexFile.Place, _ content: UnsafeRawBufferPointer) {
        let record = Int(place.record)
        pathStart = Int(place.pathStart)
        pathLength = Int(place.pathLength)
        mode = word(content, record + 24)
        id = ObjectID(bytes: content.baseAddress! + record + 40)
        stat = FileStat(content, at: record)
        flags = half(content, record + 60)
        extendedFlags = flags & 0x4000 != 0 ? half(content, record + 62) : 0
    }
}

extension FileStat {
    /// The first fields of an entry: ctime, mtime, device, inode, (mode), user, group, size.
    fileprivate init(_ content: UnsafeRawBufferPointer, at offset: Int) {
        self.init(
            ctime: (Int(word(content, offset)), Int(word(content, offset + 4))),
            mtime: (Int(word(content, offset + 8)), Int(word(content, offset + 12))),
            device: UInt64(word(content, offset + 16)), inode: UInt64(word(content, offset + 20)),
            user: word(content, offset + 28), group: word(content, offset + 32), size: Int64(word(content, offset + 36))
        )
    }
}

/// Two bytes, most significant first. The caller has checked that they are there.
private func half(_ content: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
    UInt16(bigEndian: content.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
}

/// Four bytes, most significant first. The caller has checked that they are there.
private func word(_ content: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
    UInt32(bigEndian: content.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
}

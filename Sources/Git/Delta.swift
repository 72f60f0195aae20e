import Glibc

/// The patches of deltified pack entries. See: man gitformat-pack (Deltified representation), git `patch-delta.c`
enum Delta {
    /// The size of what a delta makes; nil when it is not for a base of this size.
    static func resultSize(_ delta: UnsafeRawBufferPointer, base: Int) -> Int? {
        var at = 0
        guard let expected = number(delta, &at), expected == base else { return nil }
        return number(delta, &at)
    }

    /// Writes exactly `size` bytes.
    /// - Returns: false for a delta that reads or writes out of bounds, or makes another size.
    static func apply(
        _ delta: UnsafeRawBufferPointer, to base: UnsafeRawBufferPointer, into out: UnsafeMutableRawPointer, _ size: Int
    ) -> Bool {
        var at = 0
        guard number(delta, &at) != nil, number(delta, &at) != nil else { return false }
        var written = 0
        while at < delta.count {
            let command = delta[at]
            at += 1
            if command & 0x80 != 0 {
                var start = 0
                var count = 0
                for bit in 0..<4 where command & (1 << UInt8(bit)) != 0 {
                    guard at < delta.count else { return false }
                    start |= Int(delta[at]) << (8 * bit)
                    at += 1
                }
                for bit in 0..<3 where command & (0x10 << UInt8(bit)) != 0 {
                    guard at < delta.count else { return false }
                    count |= Int(delta[at]) << (8 * bit)
                    at += 1
                }
                if count == 0 { count = 0x10000 }
                guard start + count <= base.count, written + count <= size else { return false }
                memcpy(out + written, base.baseAddress! + start, count)
                written += count
            } else {
                let count = Int(command)
                // Zero is reserved.
                guard count > 0, at + count <= delta.count, written + count <= size else { return false }
                memcpy(out + written, delta.baseAddress! + at, count)
                at += count
                written += count
            }
        }
        return written == size
    }

    private static func number(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> Int? {
        var value = 0
        var shift = 0
        while at < bytes.count, shift < 56 {
            let byte = bytes[at]
            at += 1
            value |= Int(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        return nil
    }
}

/// Memory that grows and is used again.
struct ByteBuffer: ~Copyable {
    private(set) var start: UnsafeMutableRawPointer
    private var capacity: Int

    init() {
        capacity = 1 << 12
        start = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { start.deallocate() }

    /// Makes room for `size` bytes; what was there is lost when it has to grow, or was far too large.
    mutating func reserve(_ size: Int) {
        if size <= capacity, capacity <= max(8 * size, 1 << 20) { return }
        start.deallocate()
        capacity = size + size / 4
        start = .allocate(byteCount: max(capacity, 1), alignment: 16)
    }

    borrowing func bytes(_ count: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    /// The first `count` bytes in memory of their own, for the caller to free.
    borrowing func copy(_ count: Int) -> UnsafeMutableRawPointer {
        let copy = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 16)
        memcpy(copy, start, count)
        return copy
    }
}

/// Objects that deltas were made against, since the next one often has the same base. As git's, bounded in bytes.
/// See: git `packfile.c` (delta base cache)
struct DeltaBases: ~Copyable {
    private struct Slot {
        var pack = -1
        var offset = 0
        var kind = PackReader.Kind.blob
        var start: UnsafeMutableRawPointer?
        var count = 0
    }

    private var slots = [Slot](repeating: Slot(), count: 1 << 12)
    private var total = 0
    private var hand = 0
    private static let limit = 4 << 20

    deinit { for slot in slots { slot.start?.deallocate() } }

    private func position(_ pack: Int, _ offset: Int) -> Int {
        // Fibonacci hashing; `>>` binds tighter than `&*`.
        Int((UInt64(truncatingIfNeeded: offset ^ pack << 40) &* 0x9e37_79b9_7f4a_7c15) >> 52)
    }

    func find(_ pack: Int, _ offset: Int) -> (kind: PackReader.Kind, bytes: UnsafeRawBufferPointer)? {
        let slot = slots[position(pack, offset)]
        guard slot.offset == offset, slot.pack == pack, let start = slot.start else { return nil }
        return (slot.kind, UnsafeRawBufferPointer(start: start, count: slot.count))
    }

    mutating func insert(
        _ pack: Int, _ offset: Int, _ kind: PackReader.Kind, _ count: Int, _ buffer: borrowing ByteBuffer
    ) {
        guard count <= Self.limit / 4 else { return }
        let position = position(pack, offset)
        clear(position)
        while total + count > Self.limit {
            clear(hand)
            hand = (hand + 1) % slots.count
        }
        slots[position] = Slot(pack: pack, offset: offset, kind: kind, start: buffer.copy(count), count: count)
        total += count
    }

    private mutating func clear(_ position: Int) {
        guard let start = slots[position].start else { return }
        start.deallocate()
        total -= slots[position].count
        slots[position] = Slot()
    }
}

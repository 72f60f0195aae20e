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
}

/// Objects that deltas were made against, since the next one often has the same base. See: git `packfile.c` (delta base
/// cache)
///
/// One block of memory, written round and round, so that nothing is allocated or freed for an object: with small blobs
/// that, and the arenas it makes grow and shrink, costs as much as inflating them.
struct DeltaBases: ~Copyable {
    private struct Slot {
        var pack = -1
        var offset = 0
        var kind = PackReader.Kind.blob
        /// How many bytes had been written in all before this object.
        var position = 0
        var count = 0
    }

    private var slots = [Slot](repeating: Slot(), count: 1 << 12)
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: Self.capacity, alignment: 16)
    private var written = 0
    private static let capacity = 6 << 20

    deinit { memory.deallocate() }

    private func number(_ pack: Int, _ offset: Int) -> Int {
        // Fibonacci hashing; `>>` binds tighter than `&*`.
        Int((UInt64(truncatingIfNeeded: offset ^ pack << 40) &* 0x9e37_79b9_7f4a_7c15) >> 52)
    }

    /// The bytes are valid until the next ``insert(_:_:_:_:)``.
    func find(_ pack: Int, _ offset: Int) -> (kind: PackReader.Kind, bytes: UnsafeRawBufferPointer)? {
        let slot = slots[number(pack, offset)]
        guard slot.offset == offset, slot.pack == pack, written <= slot.position + Self.capacity else { return nil }
        let start = memory + slot.position % Self.capacity
        return (slot.kind, UnsafeRawBufferPointer(start: start, count: slot.count))
    }

    mutating func insert(_ pack: Int, _ offset: Int, _ kind: PackReader.Kind, _ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0, bytes.count <= Self.capacity / 4 else { return }
        let rest = Self.capacity - written % Self.capacity
        if bytes.count > rest { written += rest }
        memcpy(memory + written % Self.capacity, bytes.baseAddress!, bytes.count)
        slots[number(pack, offset)] = Slot(
            pack: pack, offset: offset, kind: kind, position: written, count: bytes.count)
        written += bytes.count
    }
}

import CLibDeflate
import Glibc

/// Where an object begins in one of a reader's packs.
public struct PackPlace: Sendable {
    let pack: Int
    let offset: Int
}

/// Reads objects out of packs; owned by one thread.
///
/// libgit2's object database costs a multiple of inflating for small blobs: a lock, a cache and several allocations an
/// object, and a zlib stream for each. Here an object is found, inflated by one call into a buffer that is used again,
/// and patched. Like git at a checkout it hashes nothing; the stream's own checksum is verified.
/// Packs are untrusted: whatever is out of bounds makes an object unreadable here, and libgit2 is asked instead.
struct PackReader: ~Copyable {
    private let packs: [Pack]
    /// Of each pack; valid as long as the packs are kept.
    private let bytes: [PackBytes]
    private let inflater: OpaquePointer
    private var bases = DeltaBases()
    private var links: [(offset: Int, data: Int, size: Int)] = []
    private var delta = ByteBuffer()
    private var base = ByteBuffer()
    private var result = ByteBuffer()
    private var lastPack = 0
    /// How many objects were read, and how many of them were deltas.
    private var reads = 0
    private var patched = 0
    private var inflatedInput = 0

    /// The type numbers of a pack entry. See: man gitformat-pack
    enum Kind: UInt8 {
        case commit = 1
        case tree, blob, tag
    }

    /// Larger objects are left to libgit2.
    private static let largest = 1 << 30
    /// git writes chains of at most 4095. See: git `builtin/pack-objects.c` (`--depth`)
    private static let longestChain = 4096
    /// How much of the packs is read before their pages are given back.
    private static let windowSize = 4 << 20

    /// nil without memory.
    init?(_ set: PackSet) {
        guard let inflater = libdeflate_alloc_decompressor() else { return nil }
        self.inflater = inflater
        packs = set.packs
        bytes = set.packs.map(\.bytes)
    }

    deinit { libdeflate_free_decompressor(inflater) }

    /// Where an object is; nil when it is not in the packs.
    func place(of id: ObjectID) -> PackPlace? {
        for step in packs.indices {
            let number = (lastPack + step) % packs.count
            if let offset = bytes[number].offset(of: id) { return PackPlace(pack: number, offset: offset) }
        }
        return nil
    }

    /// The type and the bytes of an object, valid until the next call; nil when it is not in the packs, or cannot be
    /// read from them.
    /// - Parameter place: where ``place(of:)`` has found it, or nil.
    mutating func read(_ id: ObjectID, at place: PackPlace? = nil) -> (kind: Kind, bytes: UnsafeRawBufferPointer)? {
        if let place, let object = read(place.pack, at: place.offset) {
            lastPack = place.pack
            return object
        }
        for step in packs.indices {
            let number = (lastPack + step) % packs.count
            // An object may be in several packs, and one of them damaged.
            if let offset = bytes[number].offset(of: id), let object = read(number, at: offset) {
                lastPack = number
                return object
            }
        }
        return nil
    }

    private mutating func read(_ number: Int, at start: Int) -> (kind: Kind, bytes: UnsafeRawBufferPointer)? {
        let pack = bytes[number]
        links.removeAll(keepingCapacity: true)
        var offset = start
        var kind: Kind
        var current: UnsafeRawBufferPointer
        var isCached = false
        while true {
            if let known = bases.find(number, offset) {
                (kind, current, isCached) = (known.kind, known.bytes, true)
                break
            }
            guard let header = Header(pack, at: offset), header.size <= Self.largest else { return nil }
            switch header.base {
            case .none(let own):
                guard inflate(pack, header.data, header.size, .base) else { return nil }
                (kind, current) = (own, base.bytes(header.size))
                // Asked for by itself it may be a base still to come, where there are deltas.
                if links.isEmpty, patched > reads / 8 { bases.insert(number, offset, own, current) }
            case .offset(let distance):
                links.append((offset, header.data, header.size))
                offset -= distance
                guard offset >= 12, links.count <= Self.longestChain else { return nil }
                continue
            case .object(let id):
                links.append((offset, header.data, header.size))
                guard let found = pack.offset(of: id), links.count <= Self.longestChain else { return nil }
                offset = found
                continue
            }
            break
        }
        reads += 1
        if !links.isEmpty { patched += 1 }
        while let link = links.popLast() {
            guard inflate(pack, link.data, link.size, .delta) else { return nil }
            let patch = delta.bytes(link.size)
            guard let size = Delta.resultSize(patch, base: current.count), size <= Self.largest else { return nil }
            result.reserve(size)
            guard Delta.apply(patch, to: current, into: result.start, size) else { return nil }
            if !isCached { bases.insert(number, offset, kind, current) }
            offset = link.offset
            isCached = false
            swap(&base, &result)
            current = base.bytes(size)
        }
        return (kind, current)
    }

    private enum Target { case base, delta }

    private mutating func inflate(_ pack: PackBytes, _ data: Int, _ size: Int, _ target: Target) -> Bool {
        // A stream cannot grow more than 1032-fold, so a header that claims more is false. See: zlib `zlib_tech.html`
        guard size / 1032 <= pack.end - data else { return false }
        let out: UnsafeMutableRawPointer
        switch target {
        case .base:
            base.reserve(size)
            out = base.start
        case .delta:
            delta.reserve(size)
            out = delta.start
        }
        var consumed = 0
        let code = libdeflate_zlib_decompress_ex(
            inflater, pack.pack.baseAddress! + data, pack.end - data, out, size, &consumed, nil)
        inflatedInput += consumed
        if inflatedInput > Self.windowSize {
            inflatedInput = 0
            for pack in packs { pack.pack.release() }
        }
        return code == LIBDEFLATE_SUCCESS
    }
}

/// The header of a pack entry. See: man gitformat-pack
private struct Header {
    enum Base {
        case none(PackReader.Kind)
        case offset(Int)
        case object(ObjectID)
    }

    let size: Int
    let base: Base
    /// Where the zlib stream begins.
    let data: Int

    init?(_ pack: PackBytes, at offset: Int) {
        let bytes = pack.pack
        var at = offset
        let end = pack.end
        guard at < end else { return nil }
        var byte = bytes[at]
        at += 1
        let type = byte >> 4 & 7
        var size = Int(byte & 15)
        var shift = 4
        while byte & 0x80 != 0 {
            guard at < end, shift < 56 else { return nil }
            byte = bytes[at]
            at += 1
            size |= Int(byte & 0x7f) << shift
            shift += 7
        }
        self.size = size
        switch type {
        case 6:
            var distance = -1
            repeat {
                guard at < end, distance < 1 << 48 else { return nil }
                byte = bytes[at]
                at += 1
                distance = (distance + 1) << 7 | Int(byte & 0x7f)
            } while byte & 0x80 != 0
            guard distance > 0 else { return nil }
            base = .offset(distance)
        case 7:
            guard at + 20 < end else { return nil }
            base = .object(ObjectID(bytes: bytes.baseAddress! + at))
            at += 20
        default:
            guard let kind = PackReader.Kind(rawValue: type) else { return nil }
            base = .none(kind)
        }
        guard at < end else { return nil }
        data = at
    }
}

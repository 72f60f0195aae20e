import CLibGit2
import Glibc

/// A file mapped for reading.
///
/// Packs and their indexes never change once they have their names; git itself maps them. One that is unlinked stays
/// readable while it is mapped. See: git `packfile.c` (`use_pack`), man gitformat-pack
///
/// `@unchecked Sendable` because a pointer is not Sendable by itself: the address and the length never change, the pages
/// are mapped PROT_READ, so that no thread can write through them ("PROT_READ: Pages may be read", man 2 mmap), and they
/// are unmapped by `deinit` only, when no thread has the object any more. ``release()`` changes no content: pages of a
/// private file mapping that nobody wrote come back from the file (man 2 madvise, MADV_DONTNEED).
final class Mapping: @unchecked Sendable {
    let bytes: UnsafeRawBufferPointer

    /// nil when the file cannot be opened, is empty, or is no regular file.
    init?(_ path: String) {
        // Not blocking: a FIFO in this place is no reason to wait for a writer.
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var value = stat()
        guard fstat(file, &value) == 0, value.st_mode & S_IFMT == S_IFREG, value.st_size > 0,
            let start = mmap(nil, Int(value.st_size), PROT_READ, MAP_PRIVATE, file, 0), start != MAP_FAILED
        else { return nil }
        bytes = UnsafeRawBufferPointer(start: start, count: Int(value.st_size))
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count) }

    /// Gives the pages back; they are read again when they are used again. Mapped pages count as memory of the process.
    func release() { madvise(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count, MADV_DONTNEED) }
}

/// A pack and its index, version 2. See: man gitformat-pack
struct Pack: Sendable {
    let pack: Mapping
    private let index: Mapping
    private let count: Int

    /// The mapped bytes, to be read while the pack is kept. Reading through the objects would count references to them for
    /// every blob, from all threads, at the cost of a few hundredths of a checkout.
    var bytes: PackBytes { PackBytes(pack: pack.bytes, index: index.bytes, count: count) }

    /// Bytes after the last object: the checksum.
    fileprivate static let trailer = 20
    fileprivate static let namesStart = 8 + 256 * 4

    /// nil when this is not a pack that can be read here; libgit2 then says what it thinks of it.
    /// - Parameter path: of the pack or the index, without the extension.
    init?(_ path: String) {
        guard let index = Mapping("\(path).idx"), let pack = Mapping("\(path).pack") else { return nil }
        let start = index.bytes
        guard start.count >= Self.namesStart + 2 * Self.trailer, start.bigEndian(0) == 0xff74_4f63,
            start.bigEndian(4) == 2
        else { return nil }
        var previous: UInt32 = 0
        for slot in 0..<256 {
            let next = start.bigEndian(8 + 4 * slot)
            guard next >= previous else { return nil }
            previous = next
        }
        let count = Int(previous)
        guard start.count >= Self.namesStart + count * 28 + 2 * Self.trailer else { return nil }
        guard pack.bytes.count >= 12 + Self.trailer, pack.bytes.bigEndian(0) == 0x5041_434b,
            [2, 3].contains(pack.bytes.bigEndian(4)), pack.bytes.bigEndian(8) == previous
        else { return nil }
        self.pack = pack
        self.index = index
        self.count = count
    }
}

/// What a ``Pack`` maps.
struct PackBytes {
    let pack: UnsafeRawBufferPointer
    fileprivate let index: UnsafeRawBufferPointer
    fileprivate let count: Int

    /// Where the objects end.
    var end: Int { pack.count - Pack.trailer }

    /// Where an object begins in the pack; nil when it is not in it.
    func offset(of id: ObjectID) -> Int? {
        let table = index
        let position: Int? = withUnsafeBytes(of: id.raw.id) { wanted in
            let first = Int(wanted[0])
            var low = first == 0 ? 0 : Int(table.bigEndian(8 + 4 * (first - 1)))
            var high = Int(table.bigEndian(8 + 4 * first))
            let key = UInt64(bigEndian: wanted.loadUnaligned(as: UInt64.self))
            // What the names between `low` and `high` lie between. They are spread evenly, so that the share of the way
            // nearly leads there; a few times only, since an index is input of strangers.
            var (least, most) = (UInt64(first) << 56, UInt64(first) << 56 | UInt64.max >> 8)
            var guesses = 4
            while low < high {
                var middle = (low + high) / 2
                if guesses > 0, least <= key, key <= most, least < most {
                    guesses -= 1
                    middle = low + Int(Double(key - least) / Double(most - least) * Double(high - 1 - low))
                }
                let place = Pack.namesStart + 20 * middle
                // The first eight bytes nearly always decide.
                let found = UInt64(bigEndian: table.loadUnaligned(fromByteOffset: place, as: UInt64.self))
                let order =
                    found == key
                    ? memcmp(table.baseAddress! + place, wanted.baseAddress!, 20) : found < key ? -1 : 1
                if order == 0 { return middle }
                if order < 0 { (low, least) = (middle + 1, found) } else { (high, most) = (middle, found) }
            }
            return nil
        }
        guard let position else { return nil }
        let offsets = Pack.namesStart + count * 24
        let offset = table.bigEndian(offsets + 4 * position)
        if offset & 0x8000_0000 == 0 { return check(Int(offset)) }
        let large = offsets + 4 * count + 8 * Int(offset & 0x7fff_ffff)
        guard large + 8 + 2 * Pack.trailer <= table.count else { return nil }
        let high = UInt64(table.bigEndian(large))
        return Int(exactly: high << 32 | UInt64(table.bigEndian(large + 4))).flatMap(check)
    }

    private func check(_ offset: Int) -> Int? { offset >= 12 && offset < end ? offset : nil }
}

extension UnsafeRawBufferPointer {
    /// A 32-bit number in network order; the caller has checked the bounds.
    func bigEndian(_ offset: Int) -> UInt32 {
        UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}

/// The packs of a repository and of its alternates, as they were when it was opened.
///
/// What came later, what is loose, and what is in a format not known here is not found; the caller asks libgit2.
public struct PackSet: Sendable {
    let packs: [Pack]

    /// No packs.
    public init() { packs = [] }

    /// - Parameter objects: an `objects` directory.
    public init(objects: String) {
        var packs: [Pack] = []
        var seen: Set<String> = []
        Self.collect(objects, depth: 0, &seen, &packs)
        self.packs = packs
    }

    /// git follows alternates of alternates five deep. See: git `object-file.c` (`link_alt_odb_entries`)
    private static func collect(_ objects: String, depth: Int, _ seen: inout Set<String>, _ packs: inout [Pack]) {
        guard depth <= 5, seen.insert(objects).inserted else { return }
        for name in names("\(objects)/pack") where name.hasSuffix(".idx") {
            if let pack = Pack("\(objects)/pack/\(name.dropLast(4))") { packs.append(pack) }
        }
        guard let text = Mapping("\(objects)/info/alternates") else { return }
        for line in text.bytes.split(separator: UInt8(ascii: "\n")) where line.first != UInt8(ascii: "#") {
            let path = String(decoding: line, as: UTF8.self)
            collect(path.hasPrefix("/") ? path : "\(objects)/\(path)", depth: depth + 1, &seen, &packs)
        }
    }

    private static func names(_ directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return names.sorted()
    }
}

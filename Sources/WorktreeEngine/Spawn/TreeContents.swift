import Glibc
import Synchronization

/// What stands in every file and symbolic link of one tree, in one block of memory.
///
/// Filled by the workers of a checkout while they write the files, and only read afterwards.
///
/// `@unchecked Sendable` because of the pointers, and for this contract: while it is filled, an entry of the tree belongs
/// to the one worker that writes its file, which alone touches its place, and its bytes, whose range no other worker is
/// given (``record(_:_:)`` takes ranges with an atomic addition). Nobody reads before ``seal()``, which is called when all
/// workers have ended, and after which the pages are PROT_READ ("Pages may be read", man 2 mprotect). `deinit` runs when
/// no thread has the object any more.
final class TreeContents: @unchecked Sendable {
    /// Bytes that it may hold.
    private let capacity: Int
    /// Bytes of memory that it takes.
    let cost: Int
    private let start: UnsafeMutableRawPointer
    private let places: UnsafeMutableBufferPointer<Place>
    private let used = Atomic<Int>(0)
    private let recorded = Atomic<Int>(0)

    private struct Place {
        var offset = -1
        var count = 0
    }

    /// - Parameters:
    ///   - entries: how many entries the tree has.
    ///   - bytes: how much stands in all of them.
    /// - Returns: nil when there is no memory for it.
    init?(entries: Int, bytes: Int) {
        let size = max(bytes, 1)
        guard let start = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            start != MAP_FAILED
        else { return nil }
        self.start = start
        capacity = bytes
        cost = Self.cost(entries: entries, bytes: bytes)
        places = .allocate(capacity: entries)
        places.initialize(repeating: Place())
    }

    /// What a tree of this size would take.
    static func cost(entries: Int, bytes: Int) -> Int { bytes + 4096 + entries * MemoryLayout<Place>.stride }

    deinit {
        munmap(start, max(capacity, 1))
        places.deallocate()
    }

    /// Keeps what was written for an entry. What has no room is left out, and the whole is then not complete.
    func record(_ entry: Int, _ bytes: UnsafeRawBufferPointer) {
        guard places[entry].offset < 0 else { return }
        let offset = used.add(bytes.count, ordering: .relaxed).oldValue
        guard offset + bytes.count <= capacity else { return }
        if let source = bytes.baseAddress { memcpy(start + offset, source, bytes.count) }
        places[entry] = Place(offset: offset, count: bytes.count)
        recorded.add(1, ordering: .relaxed)
    }

    /// Ends the recording.
    /// - Returns: whether it holds as many entries as this. If not, it is of no use.
    func seal(_ entries: Int) -> Bool {
        recorded.load(ordering: .relaxed) == entries && mprotect(start, max(capacity, 1), PROT_READ) == 0
    }

    /// What stands in an entry of a whole tree that is no submodule.
    subscript(entry: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: start + places[entry].offset, count: places[entry].count)
    }
}

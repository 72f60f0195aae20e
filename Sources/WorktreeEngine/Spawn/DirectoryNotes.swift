import CLinux
import Dispatch
import Git
import Glibc
import Synchronization

/// What the workers of a checkout saw of each directory when they left it, which costs little while it is open.
///
/// Another worker may still add names to it. That does no harm: either the directory has another ctime then, and is listed
/// by whoever looks at it later, or it holds all its names by the end of the tick in which it was seen, and of that tick
/// nothing is noted before it is over.
final class DirectoryNotes: Sendable {
    /// A directory of one destination, by its number in the tree.
    struct Seen: Sendable {
        let directory: Int
        let destination: Int
        let state: DirectoryTimes.Seen

        init(_ directory: Int, _ destination: Int, _ value: stat) {
            self.directory = directory
            self.destination = destination
            state = DirectoryTimes.Seen(value)
        }
    }

    private let seen = Mutex<[Seen]>([])

    func add(_ more: [Seen]) { seen.withLock { $0 += more } }

    /// What may be noted of the directories of each destination, all of which are complete. The top is left out: the link
    /// to the admin entry is still to come.
    /// - Parameters:
    ///   - flat: the tree.
    ///   - tops: the destinations, open.
    func times(_ flat: FlatTree, _ tops: [CInt]) -> [DirectoryTimes] {
        let isMade = flat.directories(holding: flat.entries.indices)
        var counts = [Int](repeating: 0, count: flat.directories.count)
        for entry in flat.entries { counts[entry.directory] += 1 }
        for index in flat.directories.indices.dropFirst() where isMade[index] {
            counts[flat.directories[index].directory] += 1
        }
        return tops.enumerated().map { destination, top in
            guard let notary = DirectoryTimes.Notary(top) else { return DirectoryTimes([]) }
            var latest = [Seen?](repeating: nil, count: flat.directories.count)
            for seen in self.seen.withLock({ $0 }) where seen.destination == destination {
                // Two workers were in it, one after the other.
                if let other = latest[seen.directory], seen.state.changed.precedes(other.state.changed) { continue }
                latest[seen.directory] = seen
            }
            // Those that hold nothing but directories.
            let others = flat.directories.indices.dropFirst().filter { isMade[$0] && latest[$0] == nil }
            for seen in Self.look(others, flat, top, destination) { latest[seen.directory] = seen }
            return DirectoryTimes(
                latest.dropFirst().compactMap { seen in
                    seen.flatMap { notary.note($0.state, count: counts[$0.directory]) }
                })
        }
    }

    private static func look(_ directories: [Int], _ flat: FlatTree, _ top: CInt, _ destination: Int) -> [Seen] {
        let piece = 64
        let all = Mutex<[Seen]>([])
        DispatchQueue.concurrentPerform(iterations: (directories.count + piece - 1) / piece) { number in
            let range = (number * piece)..<min((number + 1) * piece, directories.count)
            let found = directories[range].compactMap { index in
                var value = stat()
                // One that cannot be looked at is not noted.
                let result = flat.withPath(flat.directories[index]) { fstatat(top, $0, &value, AT_SYMLINK_NOFOLLOW) }
                return result == 0 ? Seen(index, destination, value) : nil
            }
            all.withLock { $0 += found }
        }
        return all.withLock { $0 }
    }
}

extension timespec {
    func precedes(_ other: timespec) -> Bool { (tv_sec, tv_nsec) < (other.tv_sec, other.tv_nsec) }
}

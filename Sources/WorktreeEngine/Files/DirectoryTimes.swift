import CLinux
import Glibc

/// When each directory of a workdir was last changed while it was filled, and how many names it held then.
///
/// A name that comes, goes or is replaced changes the ctime of its directory, and nobody can set a ctime. So a directory
/// that has the noted one holds the noted names still, and need not be listed. Like git's untracked cache this is stat
/// data, trusted as an index is; what is noted of a directory stays true whatever happens to the others.
/// See: man 7 inode (ctime), git `Documentation/technical/index-format` (untracked cache)
struct DirectoryTimes: Sendable {
    /// Beside the index.
    static let fileName = "wtengine-directories"

    /// One directory.
    struct Note: Sendable {
        let inode: UInt64
        let seconds: Int64
        let nanoseconds: UInt32
        /// How many names it holds.
        let count: UInt32
    }

    /// By ascending inode number.
    private let notes: [Note]

    private static let magic: UInt64 = 0x7774_6469_7273_0001
    private static let noteSize = MemoryLayout<Note>.stride
    /// Of a hundred million files there are hardly so many directories.
    private static let largest = 1 << 28

    init(_ notes: [Note]) { self.notes = notes.sorted { $0.inode < $1.inode } }

    /// What stands beside an index; nothing when there is no file, or none that was written here.
    init(in directory: String) {
        let path = "\(directory)/\(Self.fileName)"
        guard let bytes = contents(of: path, limit: Self.largest), bytes.count >= 8,
            (bytes.count - 8) % Self.noteSize == 0
        else {
            notes = []
            return
        }
        notes = bytes.withUnsafeBytes { bytes in
            guard bytes.loadUnaligned(as: UInt64.self) == Self.magic else { return [] }
            return (0..<(bytes.count - 8) / Self.noteSize).map {
                bytes.loadUnaligned(fromByteOffset: 8 + $0 * Self.noteSize, as: Note.self)
            }
        }
    }

    /// Nothing is noted.
    var isEmpty: Bool { notes.isEmpty }

    /// The content of the file, for this machine only, as inode numbers are.
    var bytes: [UInt8] {
        withUnsafeBytes(of: Self.magic) { Array($0) } + notes.withUnsafeBytes { Array($0) }
    }

    /// How many names a directory holds, of which this is known by `lstat`; nil when it has changed or is not noted.
    func count(_ value: stat) -> Int? {
        var (low, high) = (0, notes.count)
        while low < high {
            let middle = (low + high) / 2
            let note = notes[middle]
            if note.inode == UInt64(value.st_ino) {
                let isSame =
                    note.seconds == Int64(value.st_ctim.tv_sec)
                    && Int64(note.nanoseconds) == Int64(value.st_ctim.tv_nsec)
                return isSame ? Int(note.count) : nil
            }
            if note.inode < UInt64(value.st_ino) { low = middle + 1 } else { high = middle }
        }
        return nil
    }

    /// Says of which directories something may be noted; made when all of them are complete.
    struct Notary: Sendable {
        private let now: timespec

        /// nil on a filesystem of which it is not known that it keeps ctimes as this needs it: its own, by the clock of
        /// this kernel, and finer than a second.
        /// - Parameter directory: open, on the filesystem.
        init?(_ directory: CInt) {
            var value = statfs()
            guard fstatfs(directory, &value) == 0, Self.known.contains(UInt32(truncatingIfNeeded: value.f_type)) else {
                return nil
            }
            var now = timespec()
            guard clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0 else { return nil }
            self.now = now
        }

        /// tmpfs, ext2 to ext4, XFS, btrfs. See: man 2 statfs
        private static let known: Set<UInt32> = [0x0102_1994, 0xEF53, 0x5846_5342, 0x9123_683E]

        /// What may be noted of a directory that is complete.
        ///
        /// The kernel stamps by a clock that stands still for some milliseconds, the coarse one. A directory whose ctime
        /// is before the time that it showed when this was made is given another by any change since then; of one that
        /// was changed after the last tick that is not certain. One without a fraction may be on a filesystem that keeps
        /// whole seconds.
        /// See: linux/kernel/time/timekeeping.c (`ktime_get_coarse_real_ts64_mg`), man 2 clock_gettime
        func note(_ inode: UInt64, changed: timespec, count: Int) -> Note? {
            guard changed.precedes(now), changed.tv_nsec != 0 else { return nil }
            return Note(
                inode: inode, seconds: Int64(changed.tv_sec), nanoseconds: UInt32(changed.tv_nsec),
                count: UInt32(count))
        }
    }
}

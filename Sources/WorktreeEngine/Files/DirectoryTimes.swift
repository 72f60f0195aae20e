import CLinux
import Git
import Glibc

/// When each directory of a workdir was last changed while it was filled, its size, and how many names it held then.
///
/// A name that comes, goes or is replaced changes the ctime of its directory, and nobody can set a ctime. So a directory
/// that has the noted one holds the noted names still, and need not be listed. Like git's untracked cache this is stat
/// data, trusted as an index is; what is noted of a directory stays true whatever happens to the others.
///
/// Until the machine is booted again, that is: what btrfs replays of its log after a crash, and what a repair puts into a
/// directory, leaves the ctime as it was. The size shows it on btrfs, also where the filesystem was only mounted again,
/// and shows subvolumes, which older kernels add to a directory without another ctime: there it is twice the length of all
/// names. See: linux/fs/btrfs/inode.c (`btrfs_add_link`), linux/fs/btrfs/ioctl.c (`create_subvol`)
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
        /// Its own size, in bytes.
        let size: Int64
    }

    /// By ascending inode number.
    private let notes: [Note]

    private static let magic: UInt64 = 0x7774_6469_7273_0002
    private static let noteSize = MemoryLayout<Note>.stride
    /// Of a hundred million files there are hardly so many directories.
    private static let largest = 1 << 28

    init(_ notes: [Note]) { self.notes = notes.sorted { $0.inode < $1.inode } }

    /// What stands beside an index; nothing when there is no file, or none that was written here.
    /// - Parameter boot: what is of another boot than this counts for nothing.
    init(in directory: String, boot: String = ProcessTable.bootID) {
        let path = "\(directory)/\(Self.fileName)"
        let header = Self.header(boot)
        guard let bytes = contents(of: path, limit: Self.largest), bytes.starts(with: header),
            (bytes.count - header.count) % Self.noteSize == 0
        else {
            notes = []
            return
        }
        notes = bytes.withUnsafeBytes { bytes in
            (0..<(bytes.count - header.count) / Self.noteSize).map {
                bytes.loadUnaligned(fromByteOffset: header.count + $0 * Self.noteSize, as: Note.self)
            }
        }
    }

    private static func header(_ boot: String) -> [UInt8] {
        withUnsafeBytes(of: magic) { Array($0) } + ObjectID.ofBlob(Array(boot.utf8)).description.utf8
    }

    /// Nothing is noted.
    var isEmpty: Bool { notes.isEmpty }

    /// The content of the file, for this machine and boot only.
    var bytes: [UInt8] { Self.header(ProcessTable.bootID) + notes.withUnsafeBytes { Array($0) } }

    /// How many names a directory holds, of which this is known by `lstat`; nil when it has changed or is not noted.
    /// - Parameter last: 0; then where the last note was found, since directories are mostly asked for in the order in
    ///   which they were made.
    func count(_ value: stat, near last: inout Int) -> Int? {
        let inode = UInt64(value.st_ino)
        if last + 1 < notes.count, notes[last + 1].inode == inode { last += 1 } else { last = position(of: inode) }
        guard last < notes.count, notes[last].inode == inode else { return nil }
        let note = notes[last]
        let isSame =
            note.seconds == Int64(value.st_ctim.tv_sec) && Int64(note.nanoseconds) == Int64(value.st_ctim.tv_nsec)
            && note.size == Int64(value.st_size)
        return isSame ? Int(note.count) : nil
    }

    /// The first note of this inode number or a greater one.
    private func position(of inode: UInt64) -> Int {
        var (low, high) = (0, notes.count)
        while low < high {
            let middle = (low + high) / 2
            if notes[middle].inode < inode { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Says of which directories something may be noted; made when all of them are complete.
    struct Notary: Sendable {
        private let now: timespec

        /// nil on a filesystem of which it is not known that it keeps ctimes as this needs it: its own, by the clock of
        /// this kernel, and finer than a second. nil also where two names may be one, since then a count of names tells
        /// nothing.
        /// - Parameter directory: open, the top of the workdir.
        init?(_ directory: CInt) {
            var value = statfs()
            guard linux_is_case_folded(directory) == 0 else { return nil }
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
        func note(_ seen: Seen, count: Int) -> Note? {
            guard seen.changed.precedes(now), seen.changed.tv_nsec != 0 else { return nil }
            return Note(
                inode: seen.inode, seconds: Int64(seen.changed.tv_sec), nanoseconds: UInt32(seen.changed.tv_nsec),
                count: UInt32(count), size: seen.size)
        }
    }

    /// What `lstat` said of a directory.
    struct Seen: Sendable {
        let inode: UInt64
        let changed: timespec
        let size: Int64

        init(_ value: stat) {
            inode = UInt64(value.st_ino)
            changed = value.st_ctim
            size = Int64(value.st_size)
        }
    }
}

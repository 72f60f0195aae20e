import CLinux
import Glibc
import SystemPackage

/// Sees whether anything in a slot has changed since the watch began: one inotify instance with a watch on each of its
/// directories. Nobody reads the events: that there is one, or that the queue ran over, is the answer.
///
/// inotify does not see what is written through a mapping, nor through a hard link that lies elsewhere. Both need a
/// process of the same user inside a directory of mode 0700.
/// See: man 7 inotify (Limitations and caveats)
final class SlotWatch: Sendable {
    private let descriptor: CInt

    /// nil when the user's limit of instances is reached (`fs.inotify.max_user_instances`, 128 by default).
    init?() {
        descriptor = linux_inotify_init()
        if descriptor < 0 { return nil }
    }

    deinit { close(descriptor) }

    /// - Returns: false when the limit of watches is reached: the slot then counts as not watched.
    func add(_ directory: CInt) -> Bool { linux_inotify_watch(descriptor, directory) >= 0 }

    /// Whether nothing has happened so far. To be asked once: the events are taken out of the queue.
    func isQuiet() -> Bool {
        // Room for one event with the longest name; a smaller buffer would be refused.
        withUnsafeTemporaryAllocation(byteCount: 16 + Int(NAME_MAX) + 1, alignment: 8) { buffer in
            while true {
                if read(descriptor, buffer.baseAddress, buffer.count) >= 0 { return false }
                if Glibc.errno != EINTR { return Glibc.errno == EAGAIN }
            }
        }
    }
}

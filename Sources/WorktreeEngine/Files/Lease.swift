import CLinux
import Glibc
import Registry
import SystemPackage

/// The right to work on one run, or on one slot or pool of warm workdirs: one at a time, over all engines and processes of this state directory.
///
/// A lock on one byte of `<state>/leases`, which the kernel releases when the descriptor is closed, also by a crash.
/// So a run in state `creating` or `cleaning` whose lease can be had is left over from a crash, and one whose lease
/// is held is being worked on. See: man 2 fcntl (open file description locks)
package final class Lease: Sendable {
    private let descriptor: CInt
    private let offset: Int64

    /// Takes the lease, or fails at once with a message that names the run.
    init(_ key: RunKey, state: String) throws {
        offset = Self.offset(key.description)
        guard let descriptor = try Self.lock(offset, state) else {
            throw EngineError(
                .inProgress, .blocked, "another operation on run \(key) is under way. Try again when it has ended.")
        }
        self.descriptor = descriptor
    }

    /// Takes the lease; nil when it is held.
    convenience init?(ifFree key: RunKey, state: String) throws {
        try self.init(ifFree: key.description, state: state)
    }

    /// Takes the lease of a name; nil when it is held. Names of runs have a `#`, no other name has.
    package init?(ifFree name: String, state: String) throws {
        offset = Self.offset(name)
        guard let descriptor = try Self.lock(offset, state) else { return nil }
        self.descriptor = descriptor
    }

    private static func lock(_ offset: Int64, _ state: String) throws(SystemError) -> CInt? {
        let path = "\(state)/leases"
        let descriptor = try system("open", path) { linux_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600) }
        do {
            try system("fcntl", path) { linux_try_lock_byte(descriptor, offset) }
        } catch {
            close(descriptor)
            if error.errno == .resourceTemporarilyUnavailable || error.errno == .permissionDenied { return nil }
            throw error
        }
        return descriptor
    }

    /// Ends the lease; once.
    ///
    /// Closing alone would not: a child that another thread has just forked shares the lock until it calls exec.
    package func release() {
        _ = linux_unlock_byte(descriptor, offset)
        close(descriptor)
    }

    /// Two names that share an offset only wait for one another. FNV-1a, since it must be the same in every process.
    private static func offset(_ name: String) -> Int64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return Int64(hash >> 2)
    }
}

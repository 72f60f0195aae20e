import CLinux
import Git
import Glibc
import Synchronization

/// A libgit2 handle that is kept between calls, since opening one costs more than what is asked of it.
///
/// One thread at a time, as libgit2 asks ("an object from a single thread at a time", libgit2 `docs/threading.md`): the
/// mutex is held during the call. libgit2 looks itself whether references, packs and configuration have changed; what it
/// does not look at is compared here, and another repository in the same place gets a new handle.
final class OpenRepository: Sendable {
    private struct State: ~Copyable {
        var repository: Repository?
        var seen: [Int] = []
    }

    private let gitDirectory: String
    private let state = Mutex(State())

    init(gitDirectory: String) { self.gitDirectory = gitDirectory }

    /// Blocks while another thread uses the handle.
    /// - Throws: what `body` throws. After any error the next call gets a new handle.
    func with<T: Sendable>(_ body: @Sendable (borrowing Repository) throws -> T) throws -> T {
        try state.withLock { state in
            let now = Self.look(gitDirectory)
            if state.repository == nil || state.seen != now {
                state.repository = try Repository(gitDirectory: gitDirectory)
                state.seen = now
            }
            do {
                guard let result = try state.repository?.with(body) else { preconditionFailure("opened above") }
                return result
            } catch {
                state.repository = nil
                throw error
            }
        }
    }

    /// The repository's owner and identity, and the files that a handle reads once: the settings that libgit2 keeps in
    /// its own form, and where further objects are.
    private static func look(_ path: String) -> [Int] {
        [path, "\(path)/config", "\(path)/objects/info/alternates"].flatMap { path -> [Int] in
            var value = stat()
            guard stat(path, &value) == 0 else { return [0] }
            let identity = [Int(value.st_dev), Int(bitPattern: UInt(value.st_ino)), Int(value.st_uid)]
            if value.st_mode & S_IFMT == S_IFDIR { return identity }
            return identity + [
                Int(value.st_size), value.st_mtim.tv_sec, value.st_mtim.tv_nsec, value.st_ctim.tv_sec,
                value.st_ctim.tv_nsec,
            ]
        }
    }
}

extension Repository {
    fileprivate borrowing func with<T>(_ body: (borrowing Repository) throws -> T) rethrows -> T { try body(self) }
}

import Glibc
import Testing

/// A mount at a directory of its own, while this lives.
///
/// The test is skipped when `mount` fails, with the message of `mount`; see ``skip(_:)``.
public final class Mount: Sendable {
    /// Whether a try makes sense. A container may refuse it to root too.
    public static var canTry: Bool { geteuid() == 0 }

    /// Where it is mounted.
    public let path: String
    private let scratch: Scratch

    /// Bind-mounts a directory.
    public convenience init(of directory: String) async throws {
        try await self.init(["--bind", directory])
    }

    /// Bind-mounts a directory read-only.
    public convenience init(readOnly directory: String) async throws {
        try await self.init(["--options", "bind,ro", directory])
    }

    /// An empty tmpfs. What is mounted below it stays in its mount namespace.
    /// - Parameter size: as the option `size` of it, for example `1M`. See: man 5 tmpfs
    public convenience init(tmpfs size: String) async throws {
        try await self.init(["--make-private", "--types", "tmpfs", "--options", "size=\(size)", "tmpfs"])
    }

    private init(_ arguments: [String]) async throws {
        scratch = try Scratch()
        path = "\(scratch.path)/mount"
        try await run(["mkdir", path], in: "/")
        try await Self.mount(arguments, at: path)
    }

    deinit { Self.unmount(path) }

    static func mount(_ arguments: [String], at path: String) async throws {
        TestGuard.add(path)
        do { try await run(["mount"] + arguments + [path], in: "/") } catch let error as CommandError {
            try skip(error.description)
        }
    }

    static func unmount(_ path: String) {
        // Lazily: an engine's background may still have a descriptor in it. A mount that is left would expose its files to
        // the removal of the scratch directory, so stop here.
        // EINVAL: it is not a mount point, since the mount has failed. See: man 2 umount
        guard umount2(path, CInt(MNT_DETACH)) == 0 || errno == EINVAL else {
            fatalError("umount \(path): errno \(errno)")
        }
    }
}

/// A second filesystem, while this lives: `/dev/shm`, or else a tmpfs that is mounted for it.
public final class OtherFilesystem: Sendable {
    /// An empty directory on it.
    public let scratch: Scratch
    private let mount: Mount?

    /// Skips the test when there is none; see ``skip(_:)``.
    public init() async throws {
        let here = try Scratch()
        if let shared = try? Scratch(below: "/dev/shm"), Self.device(shared.path) != Self.device(here.path) {
            (scratch, mount) = (shared, nil)
        } else if Mount.canTry {
            let mount = try await Mount(tmpfs: "64M")
            (scratch, self.mount) = (try Scratch(below: mount.path), mount)
        } else {
            try skip("/dev/shm is not a filesystem of its own that this user may write to")
        }
    }

    private static func device(_ path: String) -> dev_t? {
        var value = stat()
        return stat(path, &value) == 0 ? value.st_dev : nil
    }
}

/// Ends a test that cannot be run on this machine, as skipped. With `WTENGINE_TEST_SKIPS=fail` in the environment the test
/// fails instead, for continuous integration, where everything works. Before Swift 6.3 a running test cannot be cancelled,
/// so it fails as well.
/// - Parameter reason: what was tried, and what it said.
public func skip(_ reason: String) throws -> Never {
    if let value = getenv("WTENGINE_TEST_SKIPS"), String(cString: value) == "fail" {
        throw CommandError(description: "may not be skipped here: \(reason)")
    }
    #if compiler(>=6.3)
        try Test.cancel(Comment(rawValue: reason))
    #else
        throw CommandError(description: "cannot be run here: \(reason)")
    #endif
}

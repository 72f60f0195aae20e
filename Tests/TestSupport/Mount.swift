import Glibc

/// A mount at a directory of its own, while this lives.
public final class Mount: Sendable {
    /// Mounting needs root, and a container that may not mount has no loop device either.
    public static var isPossible: Bool { geteuid() == 0 && access("/dev/loop-control", F_OK) == 0 }

    /// Where it is mounted.
    public let path: String
    private let scratch: Scratch

    /// A directory once more, read-only.
    public convenience init(readOnly directory: String) async throws {
        try await self.init(["--options", "bind,ro", directory])
    }

    /// An empty tmpfs.
    /// - Parameter size: as the option `size` of it, for example `1M`. See: man 5 tmpfs
    public convenience init(tmpfs size: String) async throws {
        try await self.init(["--types", "tmpfs", "--options", "size=\(size)", "tmpfs"])
    }

    private init(_ arguments: [String]) async throws {
        scratch = try Scratch()
        path = "\(scratch.path)/mount"
        try await run(["mkdir", path], in: "/")
        try await run(["mount"] + arguments + [path], in: "/")
    }

    deinit {
        // Lazily: an engine's background may still have a descriptor in it.
        if umount2(path, CInt(MNT_DETACH)) != 0 { perror("umount \(path)") }
    }
}

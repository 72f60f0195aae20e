import Foundation
import Glibc

/// A btrfs filesystem in a loop image, mounted while this lives.
public final class BtrfsImage: Sendable {
    /// Where it is mounted.
    public let path: String
    private let scratch: Scratch

    /// Mounting needs root, a loop device and mkfs.btrfs.
    public static let isPossible =
        geteuid() == 0 && FileManager.default.isExecutableFile(atPath: "/usr/sbin/mkfs.btrfs")
        && access("/dev/loop-control", F_OK) == 0

    /// Makes and mounts it.
    public init() async throws {
        scratch = try Scratch()
        path = "\(scratch.path)/mount"
        // mkfs.btrfs refuses less than about 110 MiB. Sparse, so it takes what is written.
        try await shell(
            "truncate -s 512M image && /usr/sbin/mkfs.btrfs -q image && mkdir mount && mount -o loop image mount",
            in: scratch.path)
    }

    deinit {
        // Lazily: an engine's background may still have a descriptor in it.
        if umount2(path, CInt(MNT_DETACH)) != 0 { perror("umount \(path)") }
    }
}

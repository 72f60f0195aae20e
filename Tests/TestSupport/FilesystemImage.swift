import Foundation
import Glibc

/// A filesystem in a loop image, mounted while this lives.
public final class FilesystemImage: Sendable {
    /// What can be made.
    public enum Kind: String, CaseIterable, Sendable {
        /// Has snapshots.
        case btrfs
        /// Has reflinks.
        case xfs
        /// Has neither.
        case ext4

        private var program: String { "/usr/sbin/mkfs.\(rawValue)" }

        /// Mounting needs root, a loop device and the program that makes the filesystem.
        public var isPossible: Bool {
            geteuid() == 0 && access(program, X_OK) == 0 && access("/dev/loop-control", F_OK) == 0
        }

        /// Why a test that wants one is skipped.
        public var need: String { "needs root and mkfs.\(rawValue)" }

        fileprivate var make: String { "\(program) -q image" }
    }

    /// Where it is mounted.
    public let path: String
    private let scratch: Scratch

    /// Makes and mounts it.
    public init(_ kind: Kind) async throws {
        scratch = try Scratch()
        path = "\(scratch.path)/mount"
        // mkfs.xfs refuses less than 300 MiB. Sparse, so it takes what is written.
        try await shell(
            "truncate -s 512M image && \(kind.make) && mkdir mount && mount -o loop image mount", in: scratch.path)
    }

    deinit {
        // Lazily: an engine's background may still have a descriptor in it.
        if umount2(path, CInt(MNT_DETACH)) != 0 { perror("umount \(path)") }
    }
}

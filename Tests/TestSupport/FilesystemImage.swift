import Foundation
import Glibc

/// A filesystem in a loop image, mounted while this lives.
///
/// The test is skipped when there is no loop device or the mount fails; see ``skip(_:)``.
public final class FilesystemImage: Sendable {
    /// What can be made.
    public enum Kind: String, CaseIterable, Sendable {
        /// Has snapshots.
        case btrfs
        /// Has reflinks.
        case xfs
        /// Has neither.
        case ext4

        fileprivate var program: String { "/usr/sbin/mkfs.\(rawValue)" }

        /// Whether a try makes sense: this is root, and mkfs is installed.
        public var canTry: Bool { Mount.canTry && access(program, X_OK) == 0 }
    }

    /// Where it is mounted.
    public let path: String
    private let scratch: Scratch

    /// Makes and mounts it.
    public init(_ kind: Kind) async throws {
        scratch = try Scratch()
        path = "\(scratch.path)/mount"
        // mkfs.xfs refuses less than 300 MiB. Sparse, so it takes what is written.
        try await shell("truncate -s 512M image && \(kind.program) -q image && mkdir mount", in: scratch.path)
        try await Mount.mount(["--options", "loop", "\(scratch.path)/image"], at: path)
    }

    deinit { Mount.unmount(path) }
}

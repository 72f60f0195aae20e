import Glibc
import Registry
import SystemPackage

/// The move of a workdir into the trash of its root, and back.
enum Trash {
    /// Where a workdir was found.
    enum Found: Sendable {
        /// At its path, from where it has been moved.
        case home
        /// In the trash, from an earlier attempt.
        case trash
        case nowhere
    }

    /// Renames the workdir into the trash, after the last look at its identity and links.
    /// - Parameter makingWritable: changes the modes of read-only directories. Those of the parents are restored at once, that
    ///   of the workdir by ``restore(_:root:)``; the caller has recorded ``readOnlyMode(of:root:)``.
    static func take(_ run: Run, root: Root, makingWritable: Bool = false) throws -> Found {
        guard let (directory, name) = parentAndName(of: run, root) else {
            throw EngineError(.identity, .needsHuman, "\(run.path) is not below the root \(root.path).")
        }
        let trash = try root.openPrivate("trash")
        if try trash.contains(run.adminID) { return .trash }
        let parent: Directory
        do { parent = try root.open().openBeneath(directory) } catch let error as SystemError {
            if error.errno == .noSuchFileOrDirectory { return .nowhere }
            throw error
        }
        guard try parent.contains(name) else { return .nowhere }
        let workdir = try parent.openBeneath(name)
        if let mismatch = AdminEntry.mismatch(run, workdir: workdir) { throw EngineError.mismatch(run, mismatch) }
        if makingWritable {
            try parent.moveDirectory(name, to: trash, as: run.adminID)
        } else {
            try parent.rename(name, to: trash, as: run.adminID)
        }
        guard try trash.identity(of: run.adminID) == workdir.identity() else {
            // Another directory took the name between the check and the rename: it is not ours, so it goes back.
            try trash.moveDirectory(run.adminID, to: parent, as: name)
            throw EngineError.mismatch(run, "\(run.path) was replaced during the cleanup")
        }
        return .home
    }

    /// Returns the mode of the workdir at its path if its owner lacks read, write or search permission; otherwise nil.
    static func readOnlyMode(of run: Run, root: Root) throws -> UInt32? {
        guard let (directory, name) = parentAndName(of: run, root) else { return nil }
        let mode = try root.open().openBeneath(directory).mode(of: name)
        return mode & 0o700 == 0o700 ? nil : mode
    }

    /// Moves a workdir back to its path if it is in the trash, and restores its mode.
    static func restore(_ run: Run, root: Root) throws {
        try moveBack(run, root)
        guard let mode = run.removal?.workdirMode, let relative = root.relative(run.path),
            let workdir = try? root.open().openBeneath(relative),
            AdminEntry.mismatch(run, workdir: workdir) == nil
        else { return }
        try system("fchmod", workdir.path) { fchmod(workdir.descriptor, mode) }
    }

    private static func parentAndName(of run: Run, _ root: Root) -> (parent: String, name: String)? {
        guard let relative = root.relative(run.path), let slash = relative.lastIndex(of: "/") else { return nil }
        return (String(relative[..<slash]), String(relative[relative.index(after: slash)...]))
    }

    private static func moveBack(_ run: Run, _ root: Root) throws {
        let trash = try root.openPrivate("trash")
        guard try trash.contains(run.adminID), let (directory, name) = parentAndName(of: run, root) else { return }
        var attempts = 0
        while true {
            do {
                return try trash.moveDirectory(run.adminID, to: root.open().openOrMake(directory), as: name)
            } catch let error as SystemError where error.errno == .noSuchFileOrDirectory && attempts < 10 {
                // The directory went with another workdir between the two calls.
                attempts += 1
            }
        }
    }

    /// The directory of an issue goes with its last workdir; one that is not empty stays.
    static func removeEmptyParent(_ run: Run, root: Root) {
        guard let (directory, _) = parentAndName(of: run, root), let top = try? root.open() else { return }
        _ = unlinkat(top.descriptor, directory, AT_REMOVEDIR)
    }
}

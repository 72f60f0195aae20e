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
    static func take(_ run: Run, root: Root) throws -> Found {
        guard let relative = root.relative(run.path), let slash = relative.lastIndex(of: "/") else {
            throw EngineError(.identity, .needsHuman, "\(run.path) is not below the root \(root.path).")
        }
        let trash = try root.openPrivate("trash")
        if try trash.contains(run.adminID) { return .trash }
        let name = String(relative[relative.index(after: slash)...])
        let parent: Directory
        do { parent = try root.open().openBeneath(String(relative[..<slash])) } catch let error as SystemError {
            if error.errno == .noSuchFileOrDirectory { return .nowhere }
            throw error
        }
        guard try parent.contains(name) else { return .nowhere }
        let workdir = try parent.openBeneath(name)
        if let mismatch = AdminEntry.mismatch(run, workdir: workdir) { throw EngineError.mismatch(run, mismatch) }
        try parent.rename(name, to: trash, as: run.adminID)
        guard try trash.identity(of: run.adminID) == workdir.identity() else {
            // Another directory took the name between the check and the rename: it is not ours, so it goes back.
            try trash.rename(run.adminID, to: parent, as: name)
            throw EngineError.mismatch(run, "\(run.path) was replaced during the cleanup")
        }
        return .home
    }

    /// Moves a workdir back to its path; nothing happens when it is not in the trash.
    static func restore(_ run: Run, root: Root) throws {
        let trash = try root.openPrivate("trash")
        guard try trash.contains(run.adminID), let relative = root.relative(run.path),
            let slash = relative.lastIndex(of: "/")
        else { return }
        var attempts = 0
        while true {
            do {
                return try trash.rename(
                    run.adminID, to: root.open().openOrMake(String(relative[..<slash])),
                    as: String(relative[relative.index(after: slash)...]))
            } catch let error as SystemError where error.errno == .noSuchFileOrDirectory && attempts < 10 {
                // The directory went with another workdir between the two calls.
                attempts += 1
            }
        }
    }

    /// The directory of an issue goes with its last workdir; one that is not empty stays.
    static func removeEmptyParent(_ run: Run, root: Root) {
        guard let relative = root.relative(run.path), let slash = relative.lastIndex(of: "/"),
            let top = try? root.open()
        else { return }
        _ = unlinkat(top.descriptor, String(relative[..<slash]), AT_REMOVEDIR)
    }
}

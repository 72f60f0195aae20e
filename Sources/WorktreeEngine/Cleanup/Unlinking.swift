import Logging
import Registry
import Synchronization

/// Deletes what is in the trash, in the background.
extension Engine {
    func startUnlinking(_ run: Run, _ root: Root) {
        startUnlinking(run.adminID, root) { Trash.removeEmptyParent(run, root: root) }
    }

    /// Unlinks an entry of the trash in the background.
    /// - Parameter then: runs after the entry is deleted; may block.
    func startUnlinking(_ name: String, _ root: Root, then: @escaping @Sendable () -> Void = {}) {
        unlinking.withLock { tasks in
            // One after the other: each has as many threads as are good for the disk and the spawns beside it.
            let previous = tasks.last
            tasks.append(
                Task { [logger, background] in
                    _ = await previous?.value
                    do {
                        try await background.unlink(name, in: "trash", of: root)
                        try await blocking(then)
                        return true
                    } catch {
                        logger.error(
                            "unlinking trash failed",
                            metadata: ["path": "\(root.trashPath(name))", "error": "\(error)"])
                        return false
                    }
                })
        }
    }

    /// Waits until the workdirs that this engine has cleaned up are unlinked.
    /// - Returns: how many could not be; the log says why, and ``sweep()`` tries again.
    public func finishTrash() async -> Int {
        let tasks = unlinking.withLock { tasks in
            defer { tasks = [] }
            return tasks
        }
        return await background.hurry {
            var failed = 0
            for task in tasks where await !task.value { failed += 1 }
            return failed
        }
    }
}

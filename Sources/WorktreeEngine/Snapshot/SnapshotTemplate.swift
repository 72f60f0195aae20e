import Git
import Logging
import Registry
import Synchronization

extension Engine {
    /// Fills the stage of a run by a snapshot of a template, which is made when there is none.
    /// - Returns: false where the filesystem has no snapshots.
    func snapshotTemplate(_ run: Run, _ native: Target.Native, _ root: Root) async throws -> Bool {
        let store = TemplateStore(root: root, state: configuration.state)
        guard try await blocking({ try store.mayHaveSubvolumes() }) else { return false }
        if try await blocking({ try store.snapshot(run, native) }) { return true }
        let isMade = try await makeTemplate(run.commonDir, native, store)
        guard isMade else { return false }
        return try await blocking { try store.snapshot(run, native) }
    }

    /// One task for all spawns that want the same template.
    private func makeTemplate(
        _ commonDir: String, _ native: Target.Native, _ store: TemplateStore
    ) async throws -> Bool {
        let key = "\(store.root.path) \(TemplateRecord.name(commonDir, native))"
        let workers = checkoutWorkers
        let task = templates.withLock { templates in
            if let running = templates[key] { return running }
            let task = Task { [logger] in
                defer { forgetTemplate(key) }
                let trashed = try await blocking {
                    try store.make(commonDir, native) {
                        try native.checkout(in: commonDir, workers: workers)
                    }
                }
                guard let trashed else { return false }
                logger.info("made a template", metadata: ["repo": "\(commonDir)", "tree": "\(native.tree)"])
                for name in trashed { startUnlinking(name, store.root) }
                return true
            }
            templates[key] = task
            return task
        }
        return try await task.value
    }

    private func forgetTemplate(_ key: String) { templates.withLock { $0[key] = nil } }

    static func noSnapshots(_ root: Root) -> EngineError {
        EngineError(
            .unsupported, .retry,
            "\(root.path) is not on a filesystem whose snapshots this process may make (btrfs). Use --materializer auto."
        )
    }
}

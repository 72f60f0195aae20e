import Foundation
import WorktreeEngine

extension Desk {
    /// Removes the context packs of runs whose workdirs are removed, ``Lead/Options/packRetention`` after their end:
    /// events name `worker.log`, and what a late worker has left can be read until then.
    /// - Parameters:
    ///   - roles: whose runs.
    ///   - open: runs whose attempts have not come to their end; their results are still to be read.
    func removePacks(of roles: Set<Role>, besides open: Set<RunKey>) async throws(EngineError) {
        try await Engine.catching("removing context packs in \(packs)") {
            let removed = try await engine.registry.runs(states: [.removed])
                .filter { roles.contains($0.role) && !open.contains($0.key) }
                .filter { ($0.endedAt ?? $0.updatedAt) + options.packRetention.seconds <= Date() }
            let packs = packs
            try await blocking {
                for run in removed {
                    let pack = ContextPack(run: run.key, in: packs)
                    if FileManager.default.fileExists(atPath: pack.directory) { try pack.remove() }
                }
            }
        }
    }
}

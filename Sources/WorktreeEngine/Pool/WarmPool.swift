import Git
import Synchronization

/// What an engine keeps in memory of its pools: the slots that it watches, and the refills under way.
///
/// Only a help: a slot that is not here is found on disk, one that is here may be gone from disk.
final class WarmPool: Sendable {
    private struct State {
        var watched: [String: Slot] = [:]
        var spawning = 0
        var refills: [String: Refill] = [:]
        var isClosed = false
    }

    private struct Refill {
        var task: Task<Void, Never>?
        /// Asked for again while it was under way.
        var again = false
    }

    private let state = Mutex(State())

    // MARK: Slots

    /// Remembers a slot, if it is watched.
    func keep(_ slot: Slot) {
        state.withLock { state in
            if slot.watch != nil, !state.isClosed { state.watched[slot.name] = slot }
        }
    }

    /// Takes a watched slot out of here that fits; it is then this caller's alone among those of this process.
    func take(_ native: Target.Native, commonDir: String, root: Root) -> Slot? {
        state.withLock { state in
            let found = state.watched.first { _, slot in
                slot.record.commonDir == commonDir && slot.record.root == root.path && slot.record.fits(native)
            }
            return found.flatMap { state.watched.removeValue(forKey: $0.key) }
        }
    }

    func take(_ name: String) -> Slot? { state.withLock { $0.watched.removeValue(forKey: name) } }

    func isWatched(_ name: String) -> Bool { state.withLock { $0.watched[name] != nil } }

    // MARK: Spawns

    func beginSpawn() { state.withLock { $0.spawning += 1 } }
    func endSpawn() { state.withLock { $0.spawning -= 1 } }
    var isSpawning: Bool { state.withLock { $0.spawning > 0 } }

    // MARK: Refills

    /// Starts the refill of a pool in the background, one at a time; one that is under way goes round once more.
    func startRefill(_ pool: String, _ body: @escaping @Sendable () async -> Void) {
        state.withLock { state in
            if state.isClosed { return }
            if state.refills[pool] != nil {
                state.refills[pool]?.again = true
                return
            }
            state.refills[pool] = Refill()
            state.refills[pool]?.task = Task { [self] in
                repeat { await body() } while goesOn(pool)
            }
        }
    }

    /// Asked at the end of a round, by its task.
    private func goesOn(_ pool: String) -> Bool {
        state.withLock { state in
            guard state.refills[pool]?.again == true, !Task.isCancelled, !state.isClosed else {
                state.refills[pool] = nil
                return false
            }
            state.refills[pool]?.again = false
            return true
        }
    }

    /// Ends the refill of a pool, or of all, and waits until it has ended. A slot that is being filled is finished.
    func stopRefills(_ pool: String? = nil) async {
        let tasks = state.withLock { state in
            state.refills.filter { pool == nil || $0.key == pool }.compactMap(\.value.task)
        }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
    }

    /// Waits until no refill is under way.
    func finishRefills() async {
        while true {
            let tasks = state.withLock { $0.refills.compactMap(\.value.task) }
            if tasks.isEmpty { return }
            for task in tasks { await task.value }
        }
    }

    /// Nothing is begun in the background any more, and nothing is watched.
    func close() async {
        // Out of the lock: the end of a watch with thousands of directories takes its time.
        let watched = state.withLock { state in
            state.isClosed = true
            defer { state.watched = [:] }
            return state.watched
        }
        withExtendedLifetime(watched) {}
        await stopRefills()
    }
}

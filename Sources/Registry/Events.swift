import GRDB
import Synchronization

/// Following the audit log.
extension Registry {
    /// Audit rows after one of them, oldest first.
    /// - Parameter limit: at most so many.
    public func events(after id: AuditEvent.ID, limit: Int) async throws(RegistryError) -> [AuditEvent] {
        try await read { db in
            try Row.fetchAll(
                db.cachedStatement(sql: "SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?"), arguments: [id, limit]
            ).map(AuditEvent.init(row:))
        }
    }

    /// The id of the last audit row; 0 when there is none.
    public func lastEventID() async throws(RegistryError) -> AuditEvent.ID {
        try await read { try AuditEvent.ID.fetchOne($0, sql: "SELECT max(id) FROM audit") ?? 0 }
    }

    /// How many transactions this registry has committed; see ``waitForCommit(after:for:)``.
    public var commitCount: Int { commits.total }

    /// Returns after a commit of this registry, after a time, when the task is cancelled, or when it is closed for
    /// followers; whichever is first.
    /// - Parameter count: ``commitCount`` as it was before the caller looked; returns at once when it is another.
    public func waitForCommit(after count: Int, for interval: Duration) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [commits] in await commits.wait(after: count) }
            // It ends early when it is cancelled, which is what is wanted.
            group.addTask { try? await Task.sleep(for: interval) }
            await group.next()
            group.cancelAll()
        }
    }

    /// A number that changes when another connection, of this or of any other process, has committed.
    ///
    /// Asked of the one connection that writes, since numbers of two connections cannot be compared.
    /// See: https://sqlite.org/pragma.html#pragma_data_version
    public func foreignVersion() async throws(RegistryError) -> Int64 {
        let version = await onWriter { db in
            try Int64.fetchOne(db.cachedStatement(sql: "PRAGMA data_version")) ?? 0
        }
        do { return try version.get() } catch { throw Self.map(error, path) }
    }

    /// Whether ``closeFollowers()`` was called.
    public var isClosedForFollowers: Bool { commits.isClosed }

    /// Wakes who waits for a commit; nobody waits from now on.
    public func closeFollowers() { commits.close() }
}

/// Counts the commits of one registry, and wakes who waits for the next.
final class Commits: Sendable {
    private struct State {
        var total = 0
        var isClosed = false
        var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
        var lastWaiter = 0
    }

    private let state = Mutex(State())

    var total: Int { state.withLock { $0.total } }
    var isClosed: Bool { state.withLock { $0.isClosed } }

    func add() { wake { $0.total += 1 } }
    func close() { wake { $0.isClosed = true } }

    private func wake(_ change: (inout State) -> Void) {
        let woken = state.withLock { state in
            change(&state)
            defer { state.waiting = [:] }
            return state.waiting
        }
        for continuation in woken.values { continuation.resume() }
    }

    /// Returns when the total is another one than `total`, or when the task is cancelled.
    func wait(after total: Int) async {
        let waiter = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    // Asked under the lock: a cancellation that comes later finds the continuation.
                    if state.total != total || state.isClosed || Task.isCancelled { return true }
                    state.waiting[waiter] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: waiter) }?.resume()
        }
    }
}

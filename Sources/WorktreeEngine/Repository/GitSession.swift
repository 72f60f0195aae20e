import Dispatch
import Glibc
import Synchronization

/// The session of one git process and what it has started: known once git runs, ended on request.
///
/// It is ended by signals of our own, and the task that runs the process is not cancelled: the end of all of the group is
/// waited for, which a cancelled task does not do.
final class GitSession: Sendable {
    private struct State {
        var leader: pid_t?
        var isOver = false
        var isEnding = false
        var isOverdue = false
    }

    private let state = Mutex(State())

    /// Whether it was asked to end.
    var isEnding: Bool { state.withLock { $0.isEnding } }

    /// Whether it was asked to end because its time was over.
    var isOverdue: Bool { state.withLock { $0.isOverdue } }

    /// git runs.
    func began(_ leader: pid_t) {
        state.withLock { state in
            state.leader = leader
            if state.isEnding { signal(leader, SIGTERM) }
        }
    }

    /// git is gone, and its number may soon be another's.
    func ended() {
        state.withLock { state in
            state.leader = nil
            state.isOver = true
        }
    }

    /// Asks all of it to end, and kills what still runs after five seconds. May be called before git runs, after it, and
    /// more than once.
    func end(isOverdue: Bool = false) {
        state.withLock { state in
            guard !state.isEnding, !state.isOver else { return }
            state.isOverdue = isOverdue
            state.isEnding = true
            if let leader = state.leader { signal(leader, SIGTERM) }
        }
        DispatchQueue.global(qos: .utility).asyncAfter(deadline: .now() + 5) { [self] in
            state.withLock { state in
                if let leader = state.leader { signal(leader, SIGKILL) }
            }
        }
    }

    /// Waits until nothing runs of what git had started: what that still wrote would come into what is undone next.
    /// For ten seconds at most, when even what was killed after five is not gone.
    func waitForRest() async throws {
        guard let leader = state.withLock({ $0.leader }) else { return }
        try await blocking {
            let deadline = ContinuousClock.now + .seconds(10)
            // The number stays the group's while a process is in it, also when git itself is gone. See: man 2 kill
            // Where nobody can say who is in it, it is taken to run.
            while kill(-leader, 0) == 0, (try? ProcessTable.isGroupRunning(leader)) ?? true,
                ContinuousClock.now < deadline
            { usleep(5000) }
        }
    }

    private func signal(_ leader: pid_t, _ number: CInt) { _ = kill(-leader, number) }
}

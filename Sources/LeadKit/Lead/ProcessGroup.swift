import Dispatch
import Glibc
import Synchronization
import WorktreeEngine

/// The processes of a worker: the one that leads their group, and what it has started. Watched until the leader has ended.
///
/// The group's number stays its own as long as one of them lives, or the leader is a child that was not waited for: the
/// kernel gives a number away only when no process has it as its own, its group's or its session's. See: linux/kernel/pid.c
final class ProcessGroup: Sendable {
    private struct State {
        var hasLeaderEnded = false
        /// What outlives the leader may still end by itself.
        var isInGrace = false
        var isReaped = false
    }

    let leader: WorkerProcess
    /// Fires when the worker has ended, with its leader's status as a shell gives it; nil when that was not this process's
    /// child. What is left of the group has been sent SIGKILL by then.
    let exited = Event<Int32?>()
    private let isChild: Bool
    private let state = Mutex(State())

    /// - Parameter descriptor: of the leader (man 2 pidfd_open); closed by this.
    init(of leader: WorkerProcess, isChild: Bool, descriptor: CInt) {
        self.leader = leader
        self.isChild = isChild
        // Readable once the process has ended.
        let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: .global())
        // Each handler holds what it needs until the cancellation drops both: a child is reaped whoever waits for it.
        source.setEventHandler { [self] in
            source.cancel()
            let isInGrace = state.withLock { state in
                state.hasLeaderEnded = true
                return state.isInGrace
            }
            if !isInGrace { finish() }
        }
        source.setCancelHandler { close(descriptor) }
        source.activate()
    }

    /// Sends SIGTERM to all of the group, and SIGKILL to what still runs when `grace` is over. A leader that ends takes
    /// nobody with it before: a bare shell dies of SIGTERM at once, while its command is still saving its work.
    func terminate(grace: Duration) async {
        state.withLock { $0.isInGrace = true }
        await onOtherThread { self.signal(SIGTERM) }
        await gone(within: grace)
        let hasLeaderEnded = state.withLock { state in
            state.isInGrace = false
            return state.hasLeaderEnded
        }
        await onOtherThread { if hasLeaderEnded { self.finish() } else { self.signal(SIGKILL) } }
    }

    /// Waits until nothing of the group runs, but no longer than `limit`. Nothing tells the end of a group, so it looks.
    func gone(within limit: Duration) async {
        // A task of its own, which no cancellation ends.
        await Task {
            let end = ContinuousClock.now + limit
            while await onOtherThread({ ProcessTable.isGroupRunning(of: self.leader) }), ContinuousClock.now < end {
                try? await Task.sleep(for: .milliseconds(50))
            }
        }.value
    }

    /// Ends what is left of the group, and takes the leader's status.
    private func finish() {
        signal(SIGKILL)
        exited.fire(reap())
    }

    private func signal(_ number: CInt) {
        state.withLock { state in
            guard !state.isReaped, isChild || ProcessTable.isGroupRunning(of: leader) else { return }
            _ = kill(-leader.pid, number)
        }
    }

    private func reap() -> Int32? {
        state.withLock { state in
            guard isChild, !state.isReaped else { return nil }
            state.isReaped = true
            var status: CInt = 0
            guard waitpid(leader.pid, &status, 0) == leader.pid else { return nil }
            // WIFEXITED and so on are macros, which are not there in Swift. See: man 2 wait, bits/waitstatus.h
            return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
        }
    }

    /// Away from the cooperative pool: a look at all processes takes its time.
    private func onOtherThread<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async { continuation.resume(returning: body()) }
        }
    }
}

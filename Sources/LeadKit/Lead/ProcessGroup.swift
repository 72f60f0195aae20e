import Dispatch
import Glibc
import Synchronization
import WorktreeEngine

/// A process that leads a group, watched until it has ended. Its number is used only while it is its own.
final class ProcessGroup: Sendable {
    let leader: WorkerProcess
    /// Fires when the leader has ended, with its status as a shell gives it; nil when it was not this process's child.
    let exited = Event<Int32?>()
    private let isChild: Bool
    private let isReaped = Mutex(false)

    /// - Parameter descriptor: of the process (man 2 pidfd_open); closed by this.
    init(of leader: WorkerProcess, isChild: Bool, descriptor: CInt) {
        self.leader = leader
        self.isChild = isChild
        // Readable once the process has ended.
        let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: .global())
        // Each handler holds what it needs until the cancellation drops both: a child is reaped whoever waits for it.
        source.setEventHandler { [self] in
            exited.fire(reap())
            source.cancel()
        }
        source.setCancelHandler { close(descriptor) }
        source.activate()
    }

    /// Sends a signal to the whole group, as long as its leader lives.
    func signal(_ number: CInt) {
        isReaped.withLock { isReaped in
            guard !isReaped, isChild || ProcessTable.isAlive(leader) else { return }
            _ = kill(-leader.pid, number)
        }
    }

    /// Ends what is left of the group, while the zombie keeps the number from being given away, and takes the status.
    private func reap() -> Int32? {
        isReaped.withLock { isReaped in
            guard isChild, !isReaped else { return nil }
            isReaped = true
            _ = kill(-leader.pid, SIGKILL)
            var status: CInt = 0
            guard waitpid(leader.pid, &status, 0) == leader.pid else { return nil }
            // WIFEXITED and so on are macros, which are not there in Swift. See: man 2 wait, bits/waitstatus.h
            return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
        }
    }
}

import CLinux
import Glibc
import Synchronization
public import WorktreeEngine

/// The process of a run's worker.
///
/// It leads a session and a process group of its own: so it can be ended together with what it has started, and it lives
/// on when the process of its Lead ends. What it leaves running in its group is killed when it ends. Its output has no
/// limit: a worker that may write without end needs one of its own.
public final class Worker: Sendable {
    /// How a wait came to its end.
    public enum Ending: Sendable, Hashable {
        /// The process has ended: with the status that it exited with, or 128 and the number of the signal that ended it;
        /// nil when it was the child of another process, which alone can know.
        case exited(status: Int32?)
        /// The time was over, and the process was ended.
        case overdue
        /// ``leave()`` was called. The process runs on.
        case left
    }

    /// Who it is.
    public var process: WorkerProcess { group.leader }
    private let group: ProcessGroup
    private let left = Event<Void>()
    /// Our end of the socket that the process waits at.
    private let gate: Mutex<CInt?>

    private init(_ group: ProcessGroup, gate: CInt?) {
        self.group = group
        self.gate = Mutex(gate)
    }

    deinit { gate.withLock { if let end = $0 { close(end) } } }

    // MARK: Beginning

    /// Starts a command by `/bin/sh -c`. It runs no instruction of the command before ``begin()``, and never does when
    /// this process ends before that or drops the value: so whatever has begun to work is known to the registry.
    /// - Parameters:
    ///   - directory: its working directory.
    ///   - environment: all of its environment; see ``environment(for:workdir:pack:state:inheriting:)``.
    ///   - output: a file that takes its standard output and standard error; made when it is missing.
    /// - Throws: ``EngineError/Code/worker``.
    public static func start(
        _ command: String, in directory: String, environment: [String: String], output: String
    ) async throws(EngineError) -> Worker {
        try await Engine.catching("starting a worker in \(directory)") {
            try await blocking { try spawn(command, directory, environment, output) }
        }
    }

    /// Lets the process begin. A second call does nothing.
    public func begin() {
        gate.withLock { gate in
            guard let end = gate else { return }
            // One byte never waits. When the process is gone, its end is what counts, and no SIGPIPE is wanted.
            _ = send(end, "\n", 1, CInt(MSG_NOSIGNAL))
            close(end)
            gate = nil
        }
    }

    /// A worker that an earlier process has started; nil when it does not run any more.
    /// - Throws: ``EngineError`` when the kernel gives no descriptor.
    static func adopt(_ process: WorkerProcess) throws(EngineError) -> Worker? {
        guard process.host == ProcessTable.host else {
            throw EngineError(
                .worker, .needsHuman,
                "the worker of the run is process \(process.pid) on \(process.host), which cannot be seen from "
                    + "\(ProcessTable.host). Run the Lead there.")
        }
        let descriptor = linux_pidfd_open(process.pid)
        // Looked at after it was opened: the descriptor stays with that very process.
        guard ProcessTable.isAlive(process) else {
            if descriptor >= 0 { close(descriptor) }
            return nil
        }
        guard descriptor >= 0 else { throw failed("pidfd_open", errno) }
        return Worker(ProcessGroup(of: process, isChild: false, descriptor: descriptor), gate: nil)
    }

    // MARK: Ending

    /// Waits until the process has ended. When `limit` is over, its group is sent SIGTERM, and what still runs of it after
    /// `grace` is sent SIGKILL.
    ///
    /// Not ended by the cancellation of its task; ``leave()`` does that.
    public func end(within limit: Duration, grace: Duration) async -> Ending {
        switch await wait(limit) {
        case .left: return .left
        case .exited(let status):
            await group.gone(within: Self.dying)
            return .exited(status: status)
        case .overdue:
            await group.terminate(grace: grace)
            await group.gone(within: Self.dying)
            return .overdue
        }
    }

    /// How long killed processes are waited for. One that waits for a dead disk does not end; what it holds refuses the
    /// cleanup.
    private static let dying = Duration.seconds(10)

    /// Ends every wait, now and later, and leaves the process as it is.
    public func leave() { left.fire(()) }

    private func wait(_ limit: Duration) async -> Ending {
        let ending = Event<Ending>()
        group.exited.whenFired { ending.fire(.exited(status: $0)) }
        left.whenFired { ending.fire(.left) }
        let timer = Task {
            try? await Task.sleep(for: limit)
            ending.fire(.overdue)
        }
        let result = await ending.fired()
        timer.cancel()
        return result
    }

    // MARK: The process

    private static func spawn(
        _ command: String, _ directory: String, _ environment: [String: String], _ output: String
    ) throws -> Worker {
        var ends: [CInt] = [0, 0]
        let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw failed("socketpair", errno) }
        defer { close(ends[0]) }
        do {
            let pid = try spawnProcess(command, directory, environment, output, gate: ends[0])
            // Nobody else waits for this child, so its number stays its own.
            let descriptor = linux_pidfd_open(pid)
            guard descriptor >= 0, let process = ProcessTable.worker(pid) else {
                let failure = errno
                kill(-pid, SIGKILL)
                var status: CInt = 0
                waitpid(pid, &status, 0)
                throw failed("pidfd_open", failure)
            }
            return Worker(ProcessGroup(of: process, isChild: true, descriptor: descriptor), gate: ends[1])
        } catch {
            close(ends[1])
            throw error
        }
    }

    /// Waits for one line, then becomes the command. When the other end is closed without a line, it ends.
    private static let gateScript = "IFS= read -r line || exit 125; exec /bin/sh -c \"$1\" </dev/null"

    private static func spawnProcess(
        _ command: String, _ directory: String, _ environment: [String: String], _ output: String, gate: CInt
    ) throws -> pid_t {
        let words: [String] = ["/bin/sh", "-c", gateScript, "/bin/sh", command]
        let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        let variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for text in arguments + variables { free(text) } }
        var pid: pid_t = 0
        let failure = linux_spawn_leader(&pid, directory, gate, output, arguments, variables)
        guard failure == 0 else { throw failed("posix_spawn in \(directory)", failure) }
        return pid
    }

    private static func failed(_ call: String, _ number: CInt) -> EngineError {
        EngineError(
            .worker, .blocked,
            "the worker could not be started: \(call): \(String(cString: strerror(number))). Mend that, then try again."
        )
    }
}

extension EngineError.Code {
    /// A worker could not be started or found.
    public static let worker = Self(rawValue: "WT-WORKER")
}

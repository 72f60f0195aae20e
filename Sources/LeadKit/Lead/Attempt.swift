import Foundation
import Logging
import WorktreeEngine

/// One attempt at an issue: claim, workdir, worker, result, and the message that says how it ended.
///
/// Each step looks at what is there before it does anything, and the registry remembers the attempt from before its first
/// step to after its last. So a Lead that was killed goes on by the same way from wherever it was.
struct Attempt: Sendable {
    /// Where it has come to.
    enum End: Sendable {
        /// It is over; the issue has been told, or will be by the kept message.
        case over
        /// The issue is in another state than the list has said.
        case declined
        /// It goes on in a later pass: the outbox is out of reach, or the worker was left to the next Lead.
        case later
        /// Another attempt takes its place.
        case replaced(by: Allocation)
    }

    let allocation: Allocation
    let group: Group
    /// Begun by an earlier call.
    let isResumed: Bool
    let desk: Desk

    var key: RunKey { allocation.key }
    var engine: Engine { desk.engine }
    var repository: String { desk.profile.repository(of: allocation.role) }
    var logger: Logger {
        var logger = desk.logger
        logger[metadataKey: "run"] = "\(key)"
        return logger
    }

    /// Goes the whole way, or the rest of it.
    /// - Throws: ``EngineError`` when the registry cannot be read or written. Any other failure of the engine ends the
    ///   attempt through the task gate.
    func carry() async throws(EngineError) -> End {
        let known = try await knownRun()
        if let known, !known.isActive { return try await conclude(known) }
        do {
            if known?.state != .attached {
                switch try await claim() {
                case .ours: break
                case .held: return try await withdraw(known, telling: true)
                case .lost: return try await withdraw(known, telling: false)
                case .notApplicable:
                    _ = try await withdraw(known, telling: false)
                    return .declined
                case .used: return try await takeNextNumber()
                case .unknown: return .later
                }
            }
            let run = if let known, known.state != .creating { known } else { try await spawn() }
            let pack = ContextPack(run: key, in: desk.packs)
            let worker: Worker?
            if run.state == .attached, let process = run.worker {
                worker = try Worker.adopt(process)
            } else {
                let issue = try await desk.outbox.issue(key.issue)
                // Somebody may have gated or closed it since the claim.
                if issue.isGated || issue.isClosed { return try await withdraw(run, telling: true) }
                worker = try await begin(run, pack, issue)
            }
            guard let worker else { return try await judge(run, pack, nil) }
            desk.workers.add(worker, of: key)
            defer { desk.workers.remove(key) }
            // Of a worker that an earlier Lead has started, a part of the lease is over.
            let lease = group.timeout - (ProcessTable.age(of: worker.process) ?? .zero)
            let ending = await worker.end(within: lease, grace: desk.options.grace)
            if ending == .left { return .later }
            return try await judge(run, pack, ending)
        } catch let error as OutboxError {
            logger.warning("the outbox failed; the attempt goes on later", metadata: ["error": "\(error.message)"])
            return .later
        } catch {
            return try await fail(.wrap(error, "attempt \(key)"))
        }
    }

    // MARK: Claim

    private enum Claim {
        case ours
        /// Ours, and gated or closed since.
        case held
        /// Gone, or somebody else's, gated or closed before it was ours.
        case lost
        /// In another state than the claim requires.
        case notApplicable
        /// Its event is there, and not of this attempt: a registry that was lost has given out the number before.
        case used
        /// The outbox cannot say.
        case unknown
    }

    /// Makes the issue `doing` in the name of this run, if it still waits.
    private func claim() async throws -> Claim {
        let trigger = "workrun:\(key.run)/claim"
        let text: EventText =
            if let replaced = allocation.replaces {
                EventText(
                    action: "switch", status: TaskState.doing.rawValue, reason: allocation.reason,
                    next: "a new worker in a new workdir; what run \(replaced) still reports is refused",
                    more: [("Replaces", replaced.description)])
            } else {
                EventText(action: "claim", status: TaskState.doing.rawValue, next: "a worker in a workdir of its own")
            }
        let update = IssueUpdate(
            issue: key.issue, trigger: trigger, requires: allocation.replaces == nil ? .todo : .doing, state: .doing,
            body: text.body(key, trigger: trigger))
        do {
            switch try await desk.outbox.apply(update) {
            case .applied: return .ours
            case .alreadyApplied:
                guard isResumed else { return .used }
                let issue = try await desk.outbox.issue(key.issue)
                guard issue.state(desk.profile.labels) == .doing else { return .lost }
                return issue.isGated || issue.isClosed ? .held : .ours
            // What a switch was to go on with is ours already.
            case .gated, .closed: return allocation.replaces == nil ? .lost : .held
            case .notApplicable: return .notApplicable
            }
        } catch {
            if error.kind == .missing { return .lost }
            logger.warning("the claim could not be written", metadata: ["error": "\(error.message)"])
            // Whether it was is found out by the next call.
            return .unknown
        }
    }

    /// Ends an attempt whose issue somebody else has taken, closed or gated. No worker of it has run.
    /// - Parameter telling: whether the issue is `doing` by us. Then it waits again as soon as it is neither gated nor
    ///   closed, which is when it can be told.
    private func withdraw(_ run: Run?, telling: Bool) async throws(EngineError) -> End {
        logger.notice("the issue is not to be had any more")
        if let run { try await end(run.key, .blocked) }
        try await endReplaced()
        guard telling else { return try await settle(nil) }
        let trigger = "workrun:\(key.run)/finish"
        let text = EventText(
            action: "withdraw", status: TaskState.todo.rawValue,
            reason: "the issue was gated or closed before a worker of this run began", next: "another run, by itself")
        return try await settle(
            IssueUpdate(
                issue: key.issue, trigger: trigger, requires: .doing, state: .todo,
                body: text.body(key, trigger: trigger)))
    }

    /// Goes on with the next number, which may be free.
    private func takeNextNumber() async throws(EngineError) -> End {
        try await settle(nil)
        // A switch has no such number unless another registry counts too; then that one has the issue.
        guard allocation.replaces == nil else {
            try await endReplaced()
            return .over
        }
        return try await .replaced(
            by: Engine.catching("beginning \(key.issue) again") {
                try await engine.registry.begin(
                    key.issue, role: allocation.role, on: Date(), outbox: desk.outbox.name, group: group.name)
            })
    }

    // MARK: Workdir

    /// Makes the workdir. An error that says "try again" is believed twice.
    private func spawn() async throws -> Run {
        let request = SpawnRequest(
            issue: key.issue.description, run: key.run.description, role: allocation.role.description,
            repository: repository, switching: allocation.replaces != nil)
        var retries = 2
        while true {
            do {
                let workdir = try await engine.spawn(request)
                return try await engine.run(workdir.run)
            } catch {
                guard error.mayRepeat, retries > 0 else { throw error }
                retries -= 1
                logger.notice("trying to spawn again", metadata: ["error": "\(error)"])
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    // MARK: Worker

    /// A new worker, which is bound to the run before it begins.
    private func begin(_ run: Run, _ pack: ContextPack, _ issue: Issue) async throws -> Worker {
        let included = try await engine.include(desk.profile.include, in: key)
        if !included.missing.isEmpty {
            logger.notice("not there to be copied", metadata: ["files": "\(included.missing)"])
        }
        let order = WorkOrder(issue: key.issue, run: key.run, role: allocation.role, repoDir: run.path)
        let packs = desk.packs
        _ = try await blocking {
            try ContextPack.write(order: order, spec: "# \(issue.title)\n\n\(issue.body)\n", in: packs)
        }
        let worker = try await Worker.start(
            desk.command, in: run.path,
            environment: Worker.environment(for: key, workdir: run.path, pack: pack, state: engine.configuration.state),
            output: "\(pack.directory)/worker.log")
        try await engine.attach(key, process: worker.process.pid)
        await remember(key.run.description)
        worker.begin()
        logger.info("a worker has begun", metadata: ["pid": "\(worker.process.pid)", "workdir": "\(run.path)"])
        return worker
    }

    /// Mirrors the active run for whoever reads the outbox. The registry decides.
    func remember(_ run: String?) async {
        let name = "active_run:\(allocation.role):\(key.issue)"
        do { try await desk.outbox.setValue(run, for: name) } catch {
            logger.warning("the active run could not be mirrored", metadata: ["error": "\(error.message)"])
        }
    }

    func knownRun() async throws(EngineError) -> Run? {
        try await Engine.catching("reading \(key)") { try await engine.registry.run(key) }
    }
}

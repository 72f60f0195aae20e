import Foundation
public import Logging
public import WorktreeEngine

/// Takes issues from an outbox, gives each a run with a workdir and a worker of its own, and writes back what came of it.
///
/// One Lead per role, outbox and state directory works at a time; another is refused. It remembers everything in the
/// engine's registry, so that it may be killed at any moment: the next one waits for the workers that still run, finishes
/// what they have left, and does nothing a second time.
public actor Lead {
    private let desk: Desk
    private let roles: Set<Role>
    private let actor: String?
    /// Take each issue at most once, and end when nothing is left.
    private var once = false
    private var isStopping = false
    /// Attempts under way.
    private var running: [RunKey: Group] = [:]
    /// What was begun with in this life, for `once`.
    private var taken: Set<IssueRef> = []
    private var resumed: Set<RunKey> = []
    /// Issues in another state than the list has said, as old as they were then: nothing is tried again before they
    /// change.
    private var declined: [IssueRef: Date] = [:]
    /// Attempts that go on later, and when.
    private var resting: [RunKey: Date] = [:]
    private var cursors: [Role: Date] = [:]
    private var nextSweep = Date.distantPast
    private var isSweeping = false
    /// Counts beginnings and ends, so that a pass knows whether it has seen everything.
    private var changes = 0
    /// The registry failed an attempt for good.
    private var failure: EngineError?
    /// Ends the rest between two passes.
    private var wake = Event<Void>()

    /// A Lead that is not at work yet.
    /// - Parameters:
    ///   - engine: opened with `profile.workdir`.
    ///   - worker: the command of a worker, run by `/bin/sh -c` in the workdir; see
    ///     ``Worker/environment(for:workdir:pack:state:inheriting:)``.
    ///   - actor: whose issues it takes; nil for `lead-<role>`.
    ///   - roles: some of the enabled roles; nil for all.
    public init(
        profile: Profile, engine: Engine, outbox: any Outbox, worker: String, actor: String? = nil,
        roles: Set<Role>? = nil, options: Options = Options(), logger: Logger = Logger(label: "wtengine.lead")
    ) {
        self.actor = actor
        self.roles = roles ?? profile.roles
        desk = Desk(
            profile: profile, engine: engine, outbox: outbox,
            gate: TaskGate(engine: engine, outbox: outbox, labels: profile.labels, logger: logger), command: worker,
            options: options, logger: logger)
    }

    /// Works until it is stopped, or until nothing is left to do.
    ///
    /// The cancellation of its task stops it as ``stop()`` does.
    /// - Parameter once: take what is there, each issue at most once, and return when all of it has ended.
    /// - Throws: ``EngineError/Code/leadRunning``; an error that needs a person, such as a corrupt registry; with `once`
    ///   also ``EngineError/Code/outbox`` when something could not be read or written, or when it was stopped before the
    ///   end.
    public func run(once: Bool = false) async throws(EngineError) {
        self.once = once
        // A task of its own: a cancellation lets every step come to its end.
        let work = Task { await self.work() }
        try await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            stop()
        }.get()
    }

    /// Takes no more issues, waits for workers for the grace period, leaves those that still run to the next Lead, and
    /// lets ``run(once:)`` return. May be called from anywhere, and more than once.
    public nonisolated func stop() { Task { await self.beginStopping() } }

    private func beginStopping() {
        isStopping = true
        wake.fire(())
    }

    private func work() async -> Result<Void, EngineError> {
        do throws(EngineError) {
            let leases = try await desk.lock(roles)
            defer { for lease in leases { lease.release() } }
            try await desk.checkRoles()
            for run in try await desk.engine.recover() {
                desk.logger.notice("recovered", metadata: ["run": "\(run.run)", "action": "\(run.action)"])
            }
            let result = await passes()
            await leaveWorkers()
            // What ended last.
            let delivery = try await once ? desk.gate.deliverAll() : desk.gate.deliver()
            if once, case .success = result { try await checkDrained(delivery) }
            return result
        } catch { return .failure(error) }
    }

    private func passes() async -> Result<Void, EngineError> {
        while !isStopping {
            wake = Event()
            let before = changes
            do throws(EngineError) {
                try await pass()
                if let failure { throw failure }
                if once, running.isEmpty, !isSweeping, changes == before {
                    // What is told now may free an issue for another pass.
                    if try await desk.gate.deliverAll().delivered == 0 { return .success(()) }
                    continue
                }
            } catch {
                // A token that has run out is mended while the Lead goes on.
                if once || error.disposition == .needsHuman && error.code != .outbox { return .failure(error) }
                desk.logger.error("a pass failed; the next one comes", metadata: ["error": "\(error)"])
            }
            await rest(desk.options.interval)
        }
        return .success(())
    }

    /// Until the time is over, something has come to its end, or the Lead is stopped.
    private func rest(_ time: Duration) async {
        let event = wake
        let timer = Task {
            try? await Task.sleep(for: time)
            event.fire(())
        }
        await event.fired()
        timer.cancel()
    }

    /// With `once`: whether all that was there was done. What waits for a gate that is a person's is none of it.
    private func checkDrained(_ delivery: Delivery) async throws(EngineError) {
        var open = 0
        for role in roles { open += try await self.open(role).count }
        let pending = delivery.pending - delivery.held
        guard pending == 0, open == 0 else {
            let reason = pending == 0 ? "" : ", since \(delivery.problem ?? "the outbox was not asked")"
            throw EngineError(
                .outbox, .blocked,
                "\(pending) messages to \(desk.outbox.name) and \(open) attempts are left\(reason). They are kept; run the "
                    + "Lead again.")
        }
    }

    private func leaveWorkers() async {
        let end = ContinuousClock.now + desk.options.grace
        while !running.isEmpty || isSweeping {
            wake = Event()
            let left = end - ContinuousClock.now
            if left <= .zero { desk.workers.leave() }
            await rest(left > .zero ? left : .seconds(3600))
        }
    }

    // MARK: A pass

    /// Tells what is kept, goes on with what was begun, and takes what waits.
    private func pass() async throws(EngineError) {
        try await keepQuarantines()
        try await desk.gate.deliver()
        sweepIfDue()
        let waiting = Set(try await messages().map(\.draft.key.issue))
        for group in desk.profile.groups where roles.contains(group.role) && !isStopping {
            let before = changes
            let open = try await open(group.role)
            // One that has ended meanwhile would be carried again. Its end has asked for another pass.
            guard changes == before else { return }
            for allocation in open where carrier(of: allocation)?.name == group.name { resume(allocation, group) }
            try await take(group, besides: waiting.union(open.map(\.key.issue)))
        }
    }

    private func messages() async throws(EngineError) -> [Message] {
        try await Engine.catching("reading kept messages") {
            try await desk.engine.registry.messages(outbox: desk.outbox.name, state: .pending)
        }
    }

    /// The group of an attempt, or when it has been renamed since, another one of its role.
    private func carrier(of allocation: Allocation) -> Group? {
        let groups = desk.profile.groups.filter { $0.role == allocation.role }
        return groups.first { $0.name == allocation.group } ?? groups.first
    }

    private func open(_ role: Role) async throws(EngineError) -> [Allocation] {
        try await Engine.catching("reading open attempts") {
            try await desk.engine.registry.openAllocations(outbox: desk.outbox.name, role: role)
        }
    }

    /// Quarantined runs gate their issues, whoever quarantined them: the engine, a sweep from cron, or a recovery.
    private func keepQuarantines() async throws(EngineError) {
        let runs = try await Engine.catching("reading quarantined runs") {
            try await desk.engine.registry.untoldQuarantines(outbox: desk.outbox.name, roles: roles) {
                TaskGate.trigger($0)
            }
        }
        for run in runs { try await desk.gate.keep(desk.gate.update(quarantined: run), of: run.key) }
    }

    private func resume(_ allocation: Allocation, _ group: Group) {
        let key = allocation.key
        if running[key] != nil || resting[key].map({ $0 > Date() }) == true { return }
        // The attempt before it, which has just begun it, is about to end and to hand it on: as a new one, whose claim is not
        // its own when it is there already.
        if running.contains(where: { $0.key.issue == key.issue && $0.value.role == group.role }) { return }
        if once, !resumed.insert(key).inserted { return }
        begin(allocation, group, isResumed: true)
    }

    private func take(_ group: Group, besides busy: Set<IssueRef>) async throws(EngineError) {
        func isFull() -> Bool { running.values.count { $0.name == group.name } >= group.maxConcurrent }
        if isFull() { return }
        let labels = group.listenLabels.union([desk.profile.labels.name(of: .todo)])
        let issues: [Issue]
        do {
            issues = try await desk.outbox.issues(labelled: labels, assignedTo: actor ?? "lead-\(group.role)")
            try await moveCursor(group.role, issues)
        } catch { throw EngineError(error) }
        for issue in issues where !busy.contains(issue.ref) && declined[issue.ref] != issue.updatedAt {
            if isFull() || isStopping { return }
            if issue.isGated || once && !taken.insert(issue.ref).inserted { continue }
            let allocation = try await Engine.catching("beginning \(issue.ref)") {
                try await desk.engine.registry.begin(
                    issue.ref, role: group.role, on: Date(), outbox: desk.outbox.name, group: group.name)
            }
            begin(allocation, group, isResumed: false, as: issue.updatedAt)
        }
    }

    /// Mirrors how far the outbox was read.
    private func moveCursor(_ role: Role, _ issues: [Issue]) async throws(OutboxError) {
        guard let newest = issues.map(\.updatedAt).max(), cursors[role] != newest else { return }
        cursors[role] = newest
        try await desk.outbox.setValue(newest.ISO8601Format(), for: "cursor:\(role)")
    }

    // MARK: Attempts

    private func begin(_ allocation: Allocation, _ group: Group, isResumed: Bool, as seen: Date? = nil) {
        running[allocation.key] = group
        changes += 1
        let attempt = Attempt(allocation: allocation, group: group, isResumed: isResumed, desk: desk)
        // Detached, since it would otherwise run on this actor, one attempt at a time.
        Task.detached {
            let result: Result<Attempt.End, EngineError>
            do throws(EngineError) { result = .success(try await attempt.carry()) } catch { result = .failure(error) }
            await self.ended(attempt, result, seen)
        }
    }

    private func ended(_ attempt: Attempt, _ result: Result<Attempt.End, EngineError>, _ seen: Date?) {
        let key = attempt.key
        running[key] = nil
        resting[key] = nil
        changes += 1
        switch result {
        case .success(.over): break
        case .success(.declined): declined[key.issue] = seen
        case .success(.later): resting[key] = Date() + desk.options.interval.seconds
        case .success(.replaced(let next)):
            // A pass may have found it first.
            if !isStopping, running[next.key] == nil { begin(next, attempt.group, isResumed: false, as: seen) }
        case .failure(let error):
            attempt.logger.error("the attempt goes on later", metadata: ["error": "\(error)"])
            resting[key] = Date() + desk.options.interval.seconds
            if error.disposition == .needsHuman { failure = error }
        }
        wake.fire(())
    }

    // MARK: Beside the passes

    private func sweepIfDue() {
        guard !isSweeping, Date() >= nextSweep else { return }
        isSweeping = true
        Task.detached { [desk, roles] in
            do throws(EngineError) {
                let report = try await desk.engine.sweep()
                desk.logger.info(
                    "swept",
                    metadata: ["cleaned": "\(report.cleaned.count)", "quarantined": "\(report.quarantined.count)"])
                var open: Set<RunKey> = []
                for role in roles { open.formUnion(try await self.open(role).map(\.key)) }
                try await desk.removePacks(of: roles, besides: open)
            } catch { desk.logger.error("sweeping failed", metadata: ["error": "\(error)"]) }
            await self.swept()
        }
    }

    private func swept() {
        isSweeping = false
        nextSweep = Date() + desk.options.sweepInterval.seconds
        changes += 1
        wake.fire(())
    }
}

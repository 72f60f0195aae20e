public import Foundation
import Logging
public import WorktreeEngine

/// What became of the kept messages.
public struct Delivery: Sendable, Hashable {
    /// Taken by the outbox.
    public var delivered = 0
    /// Given up for good; the audit log says why.
    public var refused = 0
    /// Kept for later.
    public var pending = 0
    /// How many of these wait for an issue that is gated or closed.
    public var held = 0
    /// Why the last message was kept for later or given up; nil when all were taken.
    public var problem: String?
}

extension TaskGate {
    /// How often a message is tried that the outbox refuses for a reason that a person may mend, such as a token that
    /// has run out: with the pauses between them, for about four hours.
    static let patience = 20

    /// Writes the kept messages to the outbox, in their order for each issue. One that has to wait holds back those
    /// after it for the same issue, and none for another.
    ///
    /// At most one process does this for an outbox at a time; another finds nothing to do. A message for an issue that
    /// does not exist any more is given up at once, with an audit row `message.refused`. One for an issue that is gated
    /// or closed waits until it no longer is.
    /// - Parameter now: messages that failed before are tried when their pause is over.
    /// - Throws: ``EngineError`` when the registry fails. What the outbox answers is in the result.
    @discardableResult
    public func deliver(at now: Date = Date()) async throws(EngineError) -> Delivery {
        try await deliver(at: now, dueAt: now, waiting: false)
    }

    /// The same for all that is kept, whatever its pause, after another process that delivers.
    func deliverAll() async throws(EngineError) -> Delivery {
        try await deliver(at: Date(), dueAt: .distantFuture, waiting: true)
    }

    private func deliver(at now: Date, dueAt: Date, waiting: Bool) async throws(EngineError) -> Delivery {
        try await Engine.catching("delivering messages to \(outbox.name)") {
            var report = Delivery()
            var held: Set<IssueRef> = []
            // Released by the kernel when this process is killed, so that nobody waits for a clock.
            func lock() throws -> Lease? {
                try Lease(ifFree: "deliver \(outbox.name)", state: engine.configuration.state)
            }
            var lease = try lock()
            while lease == nil, waiting {
                try await Task.sleep(for: .milliseconds(100))
                lease = try lock()
            }
            if let lease {
                defer { lease.release() }
                try await deliver(at: now, dueAt: dueAt, &report, &held)
            }
            let pending = try await engine.registry.messages(outbox: outbox.name, state: .pending)
            report.pending = pending.count
            report.held = pending.count { held.contains($0.draft.key.issue) }
            return report
        }
    }

    private func deliver(
        at now: Date, dueAt: Date, _ report: inout Delivery, _ held: inout Set<IssueRef>
    ) async throws {
        var tried: Set<Int64> = []
        while true {
            // Asked again after each round: what was held back by a delivered message is due now.
            let due = try await engine.registry.dueMessages(outbox: outbox.name, at: dueAt)
                .filter { !tried.contains($0.id) }
            if due.isEmpty { return }
            for message in due {
                tried.insert(message.id)
                do {
                    let result = try await write(message)
                    if result == .gated || result == .closed {
                        held.insert(message.draft.key.issue)
                        let problem = "\(message.draft.key.issue) is \(result)"
                        report.problem = report.problem ?? problem
                        try await hold(message, problem, now)
                        continue
                    }
                    try await engine.registry.delivered(message, result: Self.words(result))
                    report.delivered += 1
                } catch let error as OutboxError {
                    report.problem = error.message
                    // Before its time it is tried for nothing: many Leads with --once do not use the patience up.
                    let isDue = message.dueAt <= now
                    let isGone =
                        error.kind == .missing
                        || isDue && error.kind != .unreachable && message.attempts >= Self.patience
                    if isGone {
                        try await giveUp(message, error.message)
                        report.refused += 1
                        continue
                    }
                    if isDue { try await postpone(message, error, now) }
                    // The others would wait for the same network.
                    if error.kind == .unreachable { return }
                }
            }
        }
    }

    private func write(_ message: Message) async throws -> UpdateResult {
        let update: IssueUpdate
        do { update = try JSONDecoder().decode(IssueUpdate.self, from: Data(message.draft.content.utf8)) } catch {
            throw OutboxError(.missing, "the kept message \(message.id) cannot be read: \(error)")
        }
        var result = try await outbox.apply(update)
        if case .notApplicable = result, update.state != nil {
            // Somebody has changed the state meanwhile, and that stands. What happened is told all the same.
            var event = update
            (event.requires, event.state) = (nil, nil)
            result = try await outbox.apply(event)
        }
        return result
    }

    private static func words(_ result: UpdateResult) -> String {
        switch result {
        case .applied: "applied"
        case .alreadyApplied: "already applied"
        case .gated, .closed, .notApplicable: "not written: the issue is in another state"
        }
    }

    /// Keeps a message until its issue is neither gated nor closed, which is no failure, and nothing to ask for all the
    /// time: the longer it has been so, the longer it will be.
    private func hold(_ message: Message, _ problem: String, _ now: Date) async throws {
        let pause = min(900, max(0, now.timeIntervalSince(message.keptAt)) / 10)
        logger.debug("a message waits for its issue", metadata: ["run": "\(message.draft.key)", "why": "\(problem)"])
        try await engine.registry.postponed(message, until: now + pause, error: problem, isFailure: false)
    }

    private func giveUp(_ message: Message, _ reason: String) async throws {
        logger.error(
            "a message is given up",
            metadata: ["run": "\(message.draft.key)", "trigger": "\(message.draft.trigger)", "error": "\(reason)"])
        try await engine.registry.refused(message, error: reason)
    }

    private func postpone(_ message: Message, _ error: OutboxError, _ now: Date) async throws {
        let pause = max(
            Double(min(900, 1 << min(message.attempts, 10))),
            // An hour is the longest that a forge's limits last; a whole year is a mistake of somebody's.
            error.retryAfter.map { Double(min(3600, $0.components.seconds)) } ?? 0)
        logger.warning(
            "a message has to wait",
            metadata: [
                "run": "\(message.draft.key)", "seconds": "\(Int(pause))", "error": "\(error.message)",
            ])
        try await engine.registry.postponed(message, until: now + pause, error: error.message)
    }
}

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
    /// Why the last message was kept for later or given up; nil when all were taken.
    public var problem: String?
}

extension TaskGate {
    /// How often a message is tried that the outbox refuses for a reason that a person may mend, such as a token that
    /// has run out: with the pauses between them, for about four hours.
    static let patience = 20

    /// Writes the kept messages to the outbox, in their order for each issue. One that has to wait holds back those after
    /// it for the same issue, and none for another.
    ///
    /// At most one process does this for an outbox at a time; another finds nothing to do. A message for an issue that
    /// does not exist any more is given up at once, with an audit row `message.refused`.
    /// - Parameter now: messages that failed before are tried when their pause is over.
    /// - Throws: ``EngineError`` when the registry fails. What the outbox answers is in the result.
    @discardableResult
    public func deliver(at now: Date = Date()) async throws(EngineError) -> Delivery {
        try await Engine.catching("delivering messages to \(outbox.name)") {
            var report = Delivery()
            // Released by the kernel when this process is killed, so that nobody waits for a clock.
            if let lease = try Lease(ifFree: "deliver \(outbox.name)", state: engine.configuration.state) {
                defer { lease.release() }
                try await deliver(at: now, &report)
            }
            report.pending = try await engine.registry.messages(outbox: outbox.name, state: .pending).count
            return report
        }
    }

    private func deliver(at now: Date, _ report: inout Delivery) async throws {
        var tried: Set<Int64> = []
        while true {
            // Asked again after each round: what was held back by a delivered message is due now.
            let due = try await engine.registry.dueMessages(outbox: outbox.name, at: now)
                .filter { !tried.contains($0.id) }
            if due.isEmpty { return }
            for message in due {
                tried.insert(message.id)
                do {
                    let result = try await write(message)
                    try await engine.registry.delivered(message, result: result)
                    report.delivered += 1
                } catch let error as OutboxError {
                    report.problem = error.message
                    let isGone =
                        error.kind == .missing || error.kind != .unreachable && message.attempts >= Self.patience
                    if isGone {
                        try await giveUp(message, error.message)
                        report.refused += 1
                        continue
                    }
                    try await postpone(message, error, now)
                    // The others would wait for the same network.
                    if error.kind == .unreachable { return }
                }
            }
        }
    }

    private func write(_ message: Message) async throws -> String {
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
        return switch result {
        case .applied: "applied"
        case .alreadyApplied: "already applied"
        case .gated: "not written: the issue is gated"
        case .closed: "not written: the issue is closed"
        case .notApplicable: "not written: the issue is in another state"
        }
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
            error.retryAfter.map { Double($0.components.seconds) } ?? 0)
        logger.warning(
            "a message has to wait",
            metadata: [
                "run": "\(message.draft.key)", "seconds": "\(Int(pause))", "error": "\(error.message)",
            ])
        try await engine.registry.postponed(message, until: now + pause, error: error.message)
    }
}

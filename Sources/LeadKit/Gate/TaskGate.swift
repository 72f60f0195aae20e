import Foundation
public import Logging
public import WorktreeEngine

/// Turns failures of the engine into states of tasks: the issue becomes `blocked`, or is gated for a person, and gets one
/// event that says what happened, why, and the way out.
///
/// Everything it says is first kept in the registry and delivered from there by ``deliver(at:)``. So nothing is lost
/// while the outbox is out of reach, the messages of one issue arrive in order, and each arrives once: also when several
/// processes deliver, or one is killed half-way. What is told is identified by its trigger, `workrun:<RunID>`.
public struct TaskGate: Sendable {
    let engine: Engine
    let outbox: any Outbox
    let labels: Labels
    let logger: Logger

    /// A gate between an engine and an outbox.
    /// - Parameter labels: those of the profile, for the words of the recovery path.
    public init(
        engine: Engine, outbox: any Outbox, labels: Labels = Labels(), logger: Logger = Logger(label: "wtengine.gate")
    ) {
        self.engine = engine
        self.outbox = outbox
        self.labels = labels
        self.logger = logger
    }

    // MARK: Closing

    /// Keeps what a failure of the engine means for the issue of a run: `blocked` for what has to change outside, and for
    /// what was tried again in vain; `blocked` and the gate for what a person has to look at.
    ///
    /// Once for each run, whatever fails of it. An issue that is gated by then is told when the gate is open.
    /// - Parameters:
    ///   - action: what failed, for example `spawn`.
    ///   - repository: a path in the repository of the run.
    /// - Throws: ``EngineError`` when the registry cannot keep it.
    public func close(
        _ key: RunKey, after error: EngineError, during action: String, repository: String
    ) async throws(EngineError) {
        try await keep(try await update(key, after: error, during: action, repository: repository), of: key)
    }

    /// Keeps an update of the issue, to be written by ``deliver(at:)``. One whose trigger is kept already is ignored.
    /// - Throws: ``EngineError`` when the registry cannot keep it.
    public func keep(_ update: IssueUpdate, of key: RunKey) async throws(EngineError) {
        try await Engine.catching("keeping a message for \(key.issue)") {
            _ = try await engine.registry.keep(draft(update, of: key))
        }
    }

    /// The trigger of the one event that a gate writes for a run.
    public static func trigger(_ run: RunID) -> String { "workrun:\(run)" }

    func update(
        _ key: RunKey, after error: EngineError, during action: String, repository: String
    ) async throws(EngineError) -> IssueUpdate {
        let run = try await Engine.catching("reading \(key)") { try await engine.registry.run(key) }
        // A repository that cannot be found has no list to show.
        let others = (try? await engine.runs(repository: repository)) ?? []
        let path = RecoveryPath(
            error, key, run: run, repository: repository, state: engine.configuration.state,
            finished: others.filter { $0.hasEnded && $0.lockReason == nil && $0.state != .removed })
        let isForPerson = error.disposition == .needsHuman
        let text = EventText(
            action: action, status: isForPerson ? labels.needsHuman : TaskState.blocked.rawValue,
            reason: error.description, remedy: path.remedy, next: next(isForPerson: isForPerson),
            commands: path.commands)
        let trigger = Self.trigger(key.run)
        return IssueUpdate(
            issue: key.issue, trigger: trigger, state: .blocked, needsHuman: isForPerson,
            body: text.body(key, trigger: trigger))
    }

    /// A run that is quarantined: work was found in it when its time was over, or its removal failed.
    /// - Parameter state: what becomes of the issue; nil when its work is done and only the workdir is left.
    func update(quarantined run: Run, state: TaskState? = nil) -> IssueUpdate {
        let path = RecoveryPath(quarantined: run, state: engine.configuration.state)
        let text = EventText(
            action: "cleanup", status: labels.needsHuman, reason: run.reason ?? "the run is quarantined",
            remedy: path.remedy,
            next: state == nil
                ? "when that is done, take \(labels.needsHuman) off; the state stays as it is"
                : next(isForPerson: true),
            more: [("Workdir", run.path)], commands: path.commands)
        let trigger = Self.trigger(run.key.run)
        return IssueUpdate(
            issue: run.key.issue, trigger: trigger, state: state, needsHuman: true,
            body: text.body(run.key, trigger: trigger))
    }

    private func next(isForPerson: Bool) -> String {
        let todo = labels.name(of: .todo)
        let rest = "set \(todo) in place of \(labels.name(of: .blocked)), and the next run begins"
        return isForPerson
            ? "a person: when that is done, take \(labels.needsHuman) off, \(rest)" : "when that is done, \(rest)"
    }

    func draft(_ update: IssueUpdate, of key: RunKey) throws -> Message.Draft {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let content = String(decoding: try encoder.encode(update), as: UTF8.self)
        return Message.Draft(outbox: outbox.name, key: key, trigger: update.trigger, content: content)
    }
}

import Foundation
import Logging
import Settings
import WorktreeEngine

/// How an attempt comes to its end.
extension Attempt {
    /// What a worker has left behind.
    private struct Verdict {
        let outcome: Outcome
        /// One line; nil when the result says it all.
        let reason: String?
        var result: WorkResult?
        /// There is a result, and it cannot be taken.
        var isRefused = false
        /// Its worker died or hung, so that another one may do better.
        var mayBeTriedAgain = false
    }

    /// Decides by the result that the worker has left, however it ended; without one, by how it ended.
    /// - Parameter ending: nil for a worker that ended while no Lead was there.
    func judge(_ run: Run, _ pack: ContextPack, _ ending: Worker.Ending?) async throws(EngineError) -> End {
        let verdict = await verdict(pack, ending)
        // Somebody may have ended or superseded the run while its worker was at work. Then that counts.
        let now = try await knownRun() ?? run
        guard now.isActive else { return try await conclude(now) }
        if verdict.mayBeTriedAgain, allocation.number < desk.options.attempts {
            let reason = verdict.reason ?? ""
            logger.notice("switching to another worker", metadata: ["reason": "\(reason)"])
            let next = try await Engine.catching("replacing \(key)") {
                try await engine.registry.replace(allocation, on: Date(), because: reason)
            }
            return .replaced(by: next)
        }
        try await end(key, verdict.outcome)
        guard let ended = try await knownRun() else { return try await settle(nil) }
        return try await conclude(ended, verdict)
    }

    private func verdict(_ pack: ContextPack, _ ending: Worker.Ending?) async -> Verdict {
        do {
            if let result = try await blocking({ try pack.result() }) {
                let outcome: Outcome =
                    switch result.status {
                    case .ok: .ok
                    case .fail: .fail
                    case .blocked: .blocked
                    }
                return Verdict(outcome: outcome, reason: nil, result: result)
            }
        } catch {
            return Verdict(outcome: .fail, reason: "the result is refused: \(error)", isRefused: true)
        }
        let log = "\(pack.directory)/worker.log"
        switch ending {
        case .overdue:
            let reason = "the worker was ended when its lease of \(group.timeout) was over; its output is in \(log)"
            return Verdict(outcome: .timeout, reason: reason, mayBeTriedAgain: true)
        case .exited(status: .some(0)):
            return Verdict(outcome: .fail, reason: "the worker ended without a result; its output is in \(log)")
        case .exited(let status):
            let words = status.map { "ended with status \($0)" } ?? "ended"
            let reason = "the worker \(words) and left no result; its output is in \(log)"
            return Verdict(outcome: .fail, reason: reason, mayBeTriedAgain: true)
        case .left, nil:
            let reason = "the worker ended while no Lead was there, and left no result; its output is in \(log)"
            return Verdict(outcome: .fail, reason: reason, mayBeTriedAgain: true)
        }
    }

    // MARK: The end

    /// Tells the issue of a run that has ended, whoever ended it.
    func conclude(_ run: Run) async throws(EngineError) -> End {
        let verdict = await verdict(ContextPack(run: key, in: desk.packs), nil)
        guard let outcome = run.outcome else { return try await conclude(run, verdict) }
        // What the registry says stands; the result only tells more when it says the same.
        let isOwn = verdict.result != nil && verdict.outcome == outcome
        return try await conclude(
            run,
            Verdict(
                outcome: outcome, reason: outcome == .ok ? nil : verdict.reason ?? "the run was ended as \(outcome)",
                result: isOwn ? verdict.result : nil, isRefused: verdict.isRefused))
    }

    private func conclude(_ run: Run, _ verdict: Verdict) async throws(EngineError) -> End {
        await remember(nil)
        if run.superseded {
            // Its result is kept in its context pack for a person, and changes nothing.
            logger.notice(
                "superseded; what it has left changes nothing", metadata: ["by": "\(run.supersededBy ?? "-")"])
            return try await settle(nil)
        }
        if run.state == .quarantined, run.endedAt == nil {
            return try await settle(desk.gate.update(quarantined: run, state: .blocked))
        }
        return try await settle(finish(run, verdict, branch: await branch(of: run)))
    }

    /// The branch of a run, unless it went with the workdir. One that cannot be looked for is named.
    private func branch(of run: Run) async -> String? {
        guard let branch = run.branch, run.state == .removed else { return run.branch }
        do { return try await engine.hasBranch(branch, in: run.commonDir) ? branch : nil } catch {
            logger.warning("the branch could not be looked for", metadata: ["error": "\(error)"])
            return branch
        }
    }

    private func finish(_ run: Run, _ verdict: Verdict, branch: String?) -> IssueUpdate {
        let labels = desk.profile.labels
        let state: TaskState = verdict.outcome == .ok ? .review : .blocked
        var text = EventText(
            action: "finish", status: verdict.outcome.rawValue, reason: verdict.reason,
            next: state == .review
                ? "a review of the branch"
                : "set \(labels.name(of: .todo)) in place of \(labels.name(of: .blocked)), and the next run begins",
            more: [
                ("PR", verdict.result?.pullRequest), ("Commit", verdict.result?.commit),
                ("Tests", verdict.result?.tests), ("Branch", branch),
                ("Workdir", run.state == .removed ? nil : run.path),
            ],
            quoted: verdict.result?.text)
        if state == .blocked {
            let pack = ContextPack(run: key, in: desk.packs).directory
            text.remedy =
                verdict.isRefused
                ? "see the result in the context pack"
                : verdict.result == nil ? "see the output of the worker" : "see what the worker says"
            text.commands = [
                "wtengine show \(key) --state \(shellQuoted(engine.configuration.state))",
                "ls -l \(shellQuoted(pack))",
            ]
            if run.state != .removed { text.commands.append("git -C \(shellQuoted(run.path)) status") }
        }
        let trigger = "workrun:\(key.run)/finish"
        return IssueUpdate(
            issue: key.issue, trigger: trigger, requires: .doing, state: state, body: text.body(key, trigger: trigger))
    }

    /// The engine failed: the run ends, and the gate tells the issue.
    func fail(_ error: EngineError) async throws(EngineError) -> End {
        let run = try await knownRun()
        if error.code == .stale || run?.superseded == true {
            return if let run { try await conclude(run) } else { try await settle(nil) }
        }
        logger.error("the attempt failed", metadata: ["error": "\(error)"])
        await remember(nil)
        if run?.isActive == true {
            do { try await end(key, .fail) } catch {
                // It stays active, which the next attempt will be told.
                logger.error("the run could not be ended", metadata: ["error": "\(error)"])
            }
        }
        try await endReplaced()
        let action = run == nil ? "spawn" : "run"
        return try await settle(
            desk.gate.update(key, after: error, during: action, repository: repository))
    }

    /// Records the outcome of a run that is to be ended. That another has ended or superseded it is no failure.
    func end(_ key: RunKey, _ outcome: Outcome) async throws(EngineError) {
        do { try await engine.detach(key, outcome: outcome) } catch {
            guard [.stale, .state, .unknownRun].contains(error.code) else { throw error }
            logger.notice("the run had ended already", metadata: ["error": "\(error.message)"])
        }
    }

    /// The run whose place this attempt was to take, and did not, has no worker any more.
    func endReplaced() async throws(EngineError) {
        guard let run = allocation.replaces else { return }
        let replaced = RunKey(issue: key.issue, run: run)
        let known = try await Engine.catching("reading \(replaced)") { try await engine.registry.run(replaced) }
        guard let known, known.isActive else { return }
        let age = known.worker.flatMap { ProcessTable.age(of: $0) }
        try await end(replaced, age.map { $0 >= group.timeout } == true ? .timeout : .fail)
    }

    /// Ends the attempt and keeps what the issue is to be told, in one step.
    @discardableResult
    func settle(_ update: IssueUpdate?) async throws(EngineError) -> End {
        try await Engine.catching("settling \(key)") {
            try await engine.registry.settle(key, keeping: update.map { try desk.gate.draft($0, of: key) })
        }
        return .over
    }
}

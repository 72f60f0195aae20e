import Foundation
import LeadKit
import Synchronization
import WorktreeEngine

/// An outbox in memory, which fails when it is told to.
final class MemoryOutbox: Outbox {
    struct State {
        var issues: [IssueRef: (labels: Set<String>, isClosed: Bool)] = [:]
        var updates: [IssueUpdate] = []
        var failures: [IssueRef: OutboxError] = [:]
        var isUnreachable = false
        var calls = 0
    }

    let name = "memory:test"
    let state = Mutex(State())
    private let names = Labels()

    init(_ issues: String...) throws {
        for issue in issues {
            let ref = try IssueRef(issue)
            state.withLock { $0.issues[ref] = (["state:doing"], false) }
        }
    }

    var updates: [IssueUpdate] { state.withLock { $0.updates } }

    func labels(_ issue: String) -> Set<String> {
        state.withLock { state in state.issues.first { $0.key.description == issue }?.value.labels ?? [] }
    }

    func change(_ body: (inout State) -> Void) { state.withLock { body(&$0) } }

    func issues(labelled labels: Set<String>, assignedTo: String) async throws(OutboxError) -> [Issue] { [] }

    func issue(_ ref: IssueRef) async throws(OutboxError) -> Issue {
        guard let (labels, isClosed) = state.withLock({ $0.issues[ref] }) else {
            throw OutboxError(.missing, "no \(ref)")
        }
        return Issue(
            ref: ref, title: "", body: "", labels: labels, assignees: [], isClosed: isClosed,
            isGated: names.isGated(labels), updatedAt: Date(timeIntervalSince1970: 0))
    }

    func apply(_ update: IssueUpdate) async throws(OutboxError) -> UpdateResult {
        let failure = state.withLock { state -> OutboxError? in
            state.calls += 1
            return state.isUnreachable ? OutboxError(.unreachable, "out of reach") : state.failures[update.issue]
        }
        if let failure { throw failure }
        let issue = try await issue(update.issue)
        let known = state.withLock { state in
            state.updates.contains { $0.issue == update.issue && $0.trigger == update.trigger }
        }
        if known { return .alreadyApplied }
        if issue.isGated { return .gated }
        if issue.isClosed { return .closed }
        if let required = update.requires, required != issue.state(names) { return .notApplicable(issue.state(names)) }
        state.withLock { state in
            state.updates.append(update)
            guard var labels = state.issues[update.issue]?.labels else { return }
            if let new = update.state { labels = labels.subtracting(names.stateNames).union([names.name(of: new)]) }
            if update.needsHuman { labels.insert(names.needsHuman) }
            state.issues[update.issue]?.labels = labels
        }
        return .applied
    }

    func value(_ key: String) async throws(OutboxError) -> String? { nil }
    func setValue(_ value: String?, for key: String) async throws(OutboxError) {}
    func close() async {}
}

import Foundation
import Logging
import Registry
import Synchronization

/// The issues of a forge as an outbox.
///
/// A forge has no transactions, so an update is a comment first and labels then. The comment names the trigger: it is
/// what says that the update was made, to whoever comes after a crash, a lost answer or a broken connection. Only
/// comments of the token's own user count, so nobody else can make an update look done.
final class ForgeOutbox: Outbox {
    let name: String
    private let forge: any Forge
    private let labels: Labels
    private let userID = Mutex<Int?>(nil)
    private let turns = Turns()

    init(kind: ForgeKind, repository: String, labels: Labels, client: ForgeClient) {
        name = "\(kind.rawValue):\(repository)"
        self.labels = labels
        forge =
            switch kind {
            case .github: GitHub(client: client, repository: repository, labels: labels)
            case .gitlab: GitLab(client: client, repository: repository, labels: labels)
            }
    }

    func issues(labelled wanted: Set<String>, assignedTo assignee: String) async throws(OutboxError) -> [Issue] {
        let found: [Issue]
        do throws(ForgeFailure) {
            found = try await forge.issues(labelled: wanted, assignedTo: assignee)
        } catch {
            throw error.error
        }
        // The forge has filtered, but what it does not know of a parameter it leaves out. And an issue may be on two
        // pages when another one went from the list meanwhile.
        var seen: Set<IssueRef> = []
        return found.filter { issue in
            !issue.isGated && !issue.isClosed && wanted.isSubset(of: issue.labels)
                && issue.assignees.contains { $0.lowercased() == assignee.lowercased() }
                && seen.insert(issue.ref).inserted
        }
    }

    func issue(_ ref: IssueRef) async throws(OutboxError) -> Issue {
        do throws(ForgeFailure) {
            return try await forge.issue(number(of: ref))
        } catch {
            throw error.error
        }
    }

    @discardableResult
    func apply(_ update: IssueUpdate) async throws(OutboxError) -> UpdateResult {
        // Two calls with one trigger at a time would both find nothing. Besides, docs.github.com, "Best practices for
        // using the REST API", asks for one request after the other.
        let result = await turns.take { () async -> Result<UpdateResult, ForgeFailure> in
            do throws(ForgeFailure) {
                return .success(try await self.write(update))
            } catch {
                return .failure(error)
            }
        }
        do throws(ForgeFailure) {
            return try result.get()
        } catch {
            throw error.error
        }
    }

    func value(_ key: String) async throws(OutboxError) -> String? { nil }

    func setValue(_ value: String?, for key: String) async throws(OutboxError) {}

    func close() async { await forge.client.close() }

    // MARK: Writing

    private func write(_ update: IssueUpdate) async throws(ForgeFailure) -> UpdateResult {
        let number = try number(of: update.issue)
        guard IssueUpdate.trigger(in: update.body) == update.trigger else {
            throw ForgeFailure(
                .damaged,
                "the event for \(update.issue) does not name its trigger \(update.trigger) in its header, so it "
                    + "could not be found again. It was not written.")
        }
        if let event = try await event(update.trigger, on: number) {
            try await finish(update, on: number, after: event)
            return .alreadyApplied
        }
        // Read last, so that as little as possible happens between this look and the writing.
        let issue = try await forge.issue(number)
        if issue.isGated { return .gated }
        if issue.isClosed { return .closed }
        if let required = update.requires, issue.state(labels) != required {
            return .notApplicable(issue.state(labels))
        }
        try await comment(update, on: number)
        let missing = changes(update, of: issue)
        try await forge.changeLabels(of: number, adding: missing.adding, removing: missing.removing)
        return .applied
    }

    /// Posts the event once. When nobody can say whether an attempt came through, it is looked for first.
    private func comment(_ update: IssueUpdate, on number: Int) async throws(ForgeFailure) {
        let text = fitted(update.body)
        let patience = forge.client.patience
        var attempt = 1
        while true {
            do throws(ForgeFailure) {
                return try await forge.comment(text, on: number)
            } catch {
                // Not at once: a copy that the forge reads from may be a little behind.
                let pause = max(error.error.retryAfter ?? .zero, patience.pause(after: attempt))
                guard error.mayHaveBeenDone, attempt < patience.attempts, pause <= patience.longestPause else {
                    throw error
                }
                try await forge.client.pause(pause)
                if try await event(update.trigger, on: number) != nil { return }
                attempt += 1
            }
        }
    }

    /// Sets the labels that an interrupted call did not get to, unless the state was changed since by anybody.
    private func finish(_ update: IssueUpdate, on number: Int, after event: Event) async throws(ForgeFailure) {
        let issue = try await forge.issue(number)
        // A gate is none of ours to reach through, unless it is the one that this update closes.
        guard !event.isFollowed, !issue.isClosed, !issue.isGated || update.needsHuman else { return }
        let missing = changes(update, of: issue)
        guard !missing.adding.isEmpty || !missing.removing.isEmpty else { return }
        let later = try await forge.labelChanges(of: number).filter { $0.at > event.comment.createdAt }
        guard !later.contains(where: { contradicts($0, update) }) else { return }
        try await forge.changeLabels(of: number, adding: missing.adding, removing: missing.removing)
    }

    private func changes(_ update: IssueUpdate, of issue: Issue) -> (adding: [String], removing: [String]) {
        var adding: [String] = []
        var removing: [String] = []
        if let state = update.state {
            adding.append(labels.name(of: state))
            removing = TaskState.allCases.filter { $0 != state }.map { labels.name(of: $0) }
        }
        if update.needsHuman { adding.append(labels.needsHuman) }
        return (adding.filter { !issue.labels.contains($0) }, removing.filter { issue.labels.contains($0) })
    }

    /// Whether a change of labels goes against the update, as none of its own does.
    private func contradicts(_ change: LabelChange, _ update: IssueUpdate) -> Bool {
        if update.needsHuman, change.label == labels.needsHuman { return !change.isAdded }
        guard let wanted = update.state, let changed = labels.state(of: change.label) else { return false }
        return (changed == wanted) != change.isAdded
    }

    // MARK: Reading

    private struct Event {
        let comment: ForgeComment
        /// Whether another event of ours was written after it.
        let isFollowed: Bool
    }

    /// Our event with a trigger.
    private func event(_ trigger: String, on number: Int) async throws(ForgeFailure) -> Event? {
        let user = try await user()
        let ours = try await commentsOfIssue(number).filter { $0.author == user }
            .map { (comment: $0, trigger: IssueUpdate.trigger(in: $0.text)) }
            .filter { $0.trigger != nil }
        guard let index = ours.firstIndex(where: { $0.trigger == trigger }) else { return nil }
        return Event(comment: ours[index].comment, isFollowed: index + 1 < ours.count)
    }

    private func commentsOfIssue(_ number: Int) async throws(ForgeFailure) -> [ForgeComment] {
        do throws(ForgeFailure) {
            return try await forge.comments(on: number)
        } catch {
            throw error.ofIssue("\(forge.repository)#\(number)")
        }
    }

    private func user() async throws(ForgeFailure) -> Int {
        if let id = userID.withLock({ $0 }) { return id }
        let id = try await forge.user()
        userID.withLock { $0 = id }
        return id
    }

    private func number(of ref: IssueRef) throws(ForgeFailure) -> Int {
        let parts = ref.description.split(separator: "#")
        guard parts.count == 2, parts[0] == forge.repository, let number = Int(parts[1]) else {
            throw ForgeFailure(
                .missing, "\(ref) is no issue of \(name). Its reference has the form \(forge.repository)#12.")
        }
        return number
    }

    /// The text in the length that the forge takes, without NUL, which neither takes. The header is at the beginning.
    private func fitted(_ text: String) -> String {
        let text = text.replacing("\0", with: "\u{FFFD}")
        let count = text.unicodeScalars.count
        // A tenth is left for what the forge's own form of it needs more.
        let limit = forge.longestComment / 10 * 9
        guard count > limit else { return text }
        return String(text.unicodeScalars.prefix(limit)) + "\n\n(\(count - limit) more characters do not fit here.)"
    }
}

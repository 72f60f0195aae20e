import ForgeServers
import Logging
import Registry
import Synchronization

@testable import LeadKit

/// A forge on loopback and the outbox that speaks to it, which does not wait and keeps what it would have logged.
struct ForgeFixture: Sendable {
    let forge: FakeForge
    let outbox: ForgeOutbox
    let pauses = Kept<Duration>()
    let log = Kept<String>()

    init(
        _ kind: FakeForge.Kind, repository: String = "org/repo", pageSize: Int = 2, labels: Labels = Labels(),
        patience: ForgePatience = ForgePatience(), token: String = FakeForge.token, url: String? = nil
    ) async throws {
        forge = try await FakeForge(kind, repository: repository, pageSize: pageSize)
        let kind = ForgeKind(rawValue: kind.rawValue)!
        let client = ForgeClient(
            address: try ForgeAddress(url ?? forge.url), token: Token(token)!, patience: patience, logger: log.logger,
            sleep: { [pauses] in pauses.keep($0) }, headers: kind == .github ? GitHub.headers : GitLab.headers)
        outbox = ForgeOutbox(kind: kind, repository: repository, labels: labels, client: client)
    }

    /// An issue that waits for a Lead.
    @discardableResult
    func openTodo(_ more: [String] = []) -> (number: Int, ref: IssueRef) {
        let number = forge.open(labels: ["state:todo"] + more, assignees: ["lead-backend"])
        return (number, ref(number))
    }

    func ref(_ number: Int) -> IssueRef { try! IssueRef("\(forge.repository)#\(number)") }

    /// An event for an issue, as a Lead writes it.
    func update(
        _ issue: IssueRef, _ trigger: String = "workrun:2026-02-14-backend-0001", requires: TaskState? = nil,
        state: TaskState? = .blocked, needsHuman: Bool = false, text: String = "Free text."
    ) -> IssueUpdate {
        IssueUpdate(
            issue: issue, trigger: trigger, requires: requires, state: state, needsHuman: needsHuman,
            body: "IssueRef: \(issue)\nAction: test\nTrigger: \(trigger)\n\n\(text)\n")
    }

    /// Where the forge takes labels.
    var labelsPath: String { forge.kind == .github ? "/labels" : "/issues/" }
    /// How it takes them, and nothing else there.
    var labelsMethod: String { forge.kind == .github ? "POST" : "PUT" }
    /// Where it takes comments.
    var commentsPath: String { forge.kind == .github ? "/comments" : "/notes" }

    /// Requests that change something, as method and last segment of the path.
    var writes: [String] {
        forge.requests.filter { $0.method != "GET" }.map { "\($0.method) \($0.path.split(separator: "/").last ?? "")" }
    }
}

/// Values in the order in which they came.
final class Kept<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])

    func keep(_ value: Value) { values.withLock { $0.append(value) } }
    var all: [Value] { values.withLock { $0 } }
}

extension Kept<String> {
    /// Keeps every line of every level.
    var logger: Logger {
        var logger = Logger(label: "test") { _ in KeepingHandler(lines: self) }
        logger.logLevel = .trace
        return logger
    }
}

private struct KeepingHandler: LogHandler {
    let lines: Kept<String>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        lines.keep("\(event.level) \(event.message) \(event.metadata ?? [:]) \(metadata)")
    }
}

/// What a call throws as an outbox's error; nil when it throws none.
func outboxError(_ body: () async throws -> Void) async throws -> OutboxError? {
    do { try await body() } catch let error as OutboxError { return error }
    return nil
}

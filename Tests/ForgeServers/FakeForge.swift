import FlyingFox
import Foundation
import Synchronization

/// A forge on loopback: the issues of one repository in memory, behind the requests and answers that GitHub or GitLab
/// documents, and failures on demand. It ends when this goes.
public final class FakeForge: Sendable {
    /// Which forge it speaks as.
    public enum Kind: String, Sendable, CaseIterable {
        /// As docs.github.com, "GitHub REST API".
        case github
        /// As docs.gitlab.com, "REST API".
        case gitlab
    }

    /// What happens to a request instead of an answer.
    public enum Failure: Sendable {
        /// This answer.
        case answer(Int, headers: [String: String], body: String)
        /// The connection is closed without an answer.
        case drop
        /// No answer ever comes.
        case hang
        /// A page of a proxy, with status 200.
        case garbage
        /// What was asked for is done, and then this happens.
        indirect case afterwards(Failure)

        /// Nothing but a status, with a message as both forges have it.
        public static func status(
            _ status: Int, headers: [String: String] = [:], message: String = "made to fail"
        ) -> Failure {
            .answer(status, headers: headers, body: #"{"message":"\#(message)"}"#)
        }
    }

    /// A request as it came.
    public struct Request: Sendable {
        /// `GET` and so on.
        public let method: String
        /// Path and query as they were sent.
        public let target: String
        /// Names are in lower case.
        public let headers: [String: String]
        /// The body as text.
        public let body: String

        /// The path as it was sent.
        public var path: String { String(target.prefix { $0 != "?" }) }

        /// The segments of the path, with escapes resolved.
        var segments: [String] { path.split(separator: "/").map { $0.removingPercentEncoding ?? "" } }

        /// The parameters.
        var query: [String: String] {
            var result: [String: String] = [:]
            for pair in target.split(separator: "?").dropFirst().joined().split(separator: "&") {
                let parts = pair.split(separator: "=", maxSplits: 1).map { $0.removingPercentEncoding ?? "" }
                result[parts[0]] = parts.count > 1 ? parts[1] : ""
            }
            return result
        }
    }

    /// The only token that it accepts, of the user ``FakeUser/bot``.
    public static let token = "ft_secret-0123456789abcdef"

    /// The forge that it speaks as.
    public let kind: Kind
    /// `org/repo`, or with more groups on GitLab.
    public let repository: String
    private let store: Store
    private let server: Loopback

    /// Starts it.
    /// - Parameter pageSize: no list has longer pages, whatever is asked for.
    public init(_ kind: Kind, repository: String = "org/repo", pageSize: Int = 2) async throws {
        self.kind = kind
        self.repository = repository
        let store = Store(pageSize: pageSize)
        let face: any Face = kind == .github ? FakeGitHub(repository: repository) : FakeGitLab(repository: repository)
        self.store = store
        server = try await Loopback { try await store.answer($0, as: face) }
    }

    /// What `url` in `[outbox]` is to be.
    public var url: String { "http://127.0.0.1:\(server.port)" + (kind == .gitlab ? "/api/v4" : "") }

    // MARK: The issues, as people see and change them

    /// Changes issues as whoever; see ``FakeIssue``.
    @discardableResult
    public func change<Value: Sendable>(_ number: Int, _ change: @Sendable (inout FakeIssue) -> Value) -> Value {
        store.withModel { model in model.change(number, change) }
    }

    /// Opens an issue; its number.
    @discardableResult
    public func open(
        title: String = "A title", body: String = "A body.", labels: [String] = [], assignees: [String] = [],
        isPullRequest: Bool = false
    ) -> Int {
        store.withModel { model in
            let now = model.now()
            let number = model.issues.count + 1
            model.issues[number] = FakeIssue(
                number: number, title: title, body: body, labels: labels, assignees: assignees,
                isPullRequest: isPullRequest, now: now)
            return number
        }
    }

    /// An issue as it is now.
    public func issue(_ number: Int) -> FakeIssue { store.withModel { $0.issues[number]! } }

    /// The events with this trigger, or all comments of the token's user.
    public func events(on number: Int, trigger: String? = nil) -> [String] {
        issue(number).comments.filter { $0.author == .bot }.map(\.text)
            .filter { text in trigger.map { text.contains("Trigger: \($0)\n") } ?? true }
    }

    // MARK: Failures and requests

    /// Makes the next requests fail.
    /// - Parameters:
    ///   - method: only those with this method; nil for any.
    ///   - path: only those with this in their path; nil for any.
    public func fail(_ failure: Failure, times: Int = 1, method: String? = nil, path: String? = nil) {
        store.withModel { model in
            model.failures.append(.init(failure: failure, match: .init(method: method, path: path), rest: times))
        }
    }

    /// Forgets failures that have not happened.
    public func recover() { store.withModel { $0.failures = [] } }

    /// Does something once, when the next such request has come and before it is answered.
    /// - Parameters: as of ``fail(_:times:method:path:)``.
    public func interrupt(method: String? = nil, path: String? = nil, _ body: @escaping @Sendable (FakeForge) -> Void) {
        store.withModel { model in
            model.interruptions.append(
                .init(match: .init(method: method, path: path)) { [weak self] in
                    if let self { body(self) }
                })
        }
    }

    /// Every request so far.
    public var requests: [Request] { store.withModel { $0.requests } }
}

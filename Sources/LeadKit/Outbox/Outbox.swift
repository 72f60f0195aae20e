public import Registry

/// Where issues come from and where results go to: a local SQLite database, or the issues of a forge.
///
/// A Lead is the only writer of its role's issues; people and other programs may write beside it at any time. Every
/// method may be called from any task, and none blocks the cooperative pool.
public protocol Outbox: Sendable {
    /// A stable name that holds no secret: `sqlite:/path/of/file`, `github:org/repo`, `gitlab:group/project`. Kept
    /// messages are filed under it.
    var name: String { get }

    /// Open issues that carry every one of the labels, are assigned to `assignee` and are not gated; oldest first.
    /// - Throws: ``OutboxError``.
    func issues(labelled labels: Set<String>, assignedTo assignee: String) async throws(OutboxError) -> [Issue]

    /// One issue as it is now.
    /// - Throws: ``OutboxError``; its kind is ``OutboxError/Kind/missing`` when there is no such issue.
    func issue(_ ref: IssueRef) async throws(OutboxError) -> Issue

    /// Writes one event to an issue, sets its state label in place of other state labels, and gates it when asked to.
    ///
    /// It does this once for each ``IssueUpdate/trigger``, however often it is called and wherever an earlier call was
    /// interrupted:
    /// 1. When an event of ours with the trigger is there, nothing is written again. Labels that an interrupted call did
    ///    not get to are set, unless somebody has changed the state since.
    /// 2. Otherwise a gated or closed issue, and one that is not in the required state, is left alone.
    /// 3. Otherwise the event is written and the labels are set.
    /// - Throws: ``OutboxError``. The update may have been written all the same; another call finds out.
    @discardableResult
    func apply(_ update: IssueUpdate) async throws(OutboxError) -> UpdateResult

    /// What a Lead remembers between its lives under a key; nil when there is nothing. A forge remembers nothing.
    /// - Throws: ``OutboxError``.
    func value(_ key: String) async throws(OutboxError) -> String?

    /// Remembers a value under a key, or forgets it with nil. A forge does nothing.
    /// - Throws: ``OutboxError``.
    func setValue(_ value: String?, for key: String) async throws(OutboxError)

    /// Gives back connections and files. No other method may be called after it.
    func close() async
}

/// Why an outbox could not do what it was asked to.
public struct OutboxError: Error, Sendable, CustomStringConvertible {
    /// What a Lead does about it.
    public enum Kind: String, Sendable, Hashable, Codable {
        /// Out of reach or out of quota for now: the same may be tried later.
        case unreachable
        /// The outbox said no, and will say it again until a person has changed something.
        case refused
        /// A file or an answer is not what it should be.
        case damaged
        /// There is no such issue.
        case missing
    }

    /// What a Lead does about it.
    public let kind: Kind
    /// Names the thing, the reason and the remedy; never holds a token.
    public let message: String
    /// How long the outbox asked to be left alone; nil when it did not say.
    public let retryAfter: Duration?

    /// An error.
    public init(_ kind: Kind, _ message: String, retryAfter: Duration? = nil) {
        self.kind = kind
        self.message = message
        self.retryAfter = retryAfter
    }

    /// The message.
    public var description: String { message }
}

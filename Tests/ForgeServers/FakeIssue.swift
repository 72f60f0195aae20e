public import struct Foundation.Date

/// Somebody with an account.
public struct FakeUser: Sendable, Hashable {
    /// Of the account.
    public let id: Int
    /// How it is called.
    public let name: String

    /// The user whose token ``FakeForge/token`` is.
    public static let bot = FakeUser(id: 1000, name: "lead-bot")
    /// Somebody else.
    public static let person = FakeUser(id: 7, name: "ada")
}

/// An issue with its history. Every change moves the forge's clock by a second.
public struct FakeIssue: Sendable {
    /// A comment.
    public struct Comment: Sendable, Hashable {
        /// Ascends over all issues.
        public let id: Int
        /// Who wrote it.
        public let author: FakeUser
        /// As it is shown.
        public let text: String
        /// What GitLab notes by itself.
        public let isSystem: Bool
        /// When it was written.
        public let at: Date
    }

    /// A label was put on or taken off.
    public struct LabelEvent: Sendable, Hashable {
        /// Who did it.
        public let author: FakeUser
        /// The label.
        public let label: String
        /// Whether it was put on.
        public let isAdded: Bool
        /// When it was done.
        public let at: Date
    }

    /// In the repository.
    public let number: Int
    /// One line.
    public let title: String
    /// The text.
    public let body: String
    /// In the order in which they were put on.
    public private(set) var labels: [String]
    /// Names of users.
    public var assignees: [String]
    /// Whether GitHub calls it an issue though it is none.
    public let isPullRequest: Bool
    /// Whether it is closed.
    public var isClosed = false
    /// Oldest first.
    public private(set) var comments: [Comment] = []
    /// Oldest first.
    public private(set) var labelEvents: [LabelEvent] = []
    let createdAt: Date
    var updatedAt: Date

    init(
        number: Int, title: String, body: String, labels: [String], assignees: [String], isPullRequest: Bool, now: Date
    ) {
        self.number = number
        self.title = title
        self.body = body
        self.labels = labels
        self.assignees = assignees
        self.isPullRequest = isPullRequest
        createdAt = now
        updatedAt = now
    }

    /// Puts a label on.
    public mutating func add(label: String, by author: FakeUser = .person) {
        // One label for any case, which is GitHub's rule; GitLab's tests use no two that differ by it alone.
        guard !labels.contains(where: { $0.lowercased() == label.lowercased() }) else { return }
        labels.append(label)
        labelEvents.append(LabelEvent(author: author, label: label, isAdded: true, at: updatedAt))
    }

    /// Takes a label off.
    /// - Returns: whether it was there.
    @discardableResult
    public mutating func remove(label: String, by author: FakeUser = .person) -> Bool {
        guard let index = labels.firstIndex(where: { $0.lowercased() == label.lowercased() }) else { return false }
        labels.remove(at: index)
        labelEvents.append(LabelEvent(author: author, label: label, isAdded: false, at: updatedAt))
        return true
    }

    /// Writes a comment.
    public mutating func comment(_ text: String, by author: FakeUser = .person, isSystem: Bool = false) {
        comments.append(
            Comment(
                id: number * 10_000 + comments.count + 1, author: author, text: text, isSystem: isSystem, at: updatedAt)
        )
    }
}

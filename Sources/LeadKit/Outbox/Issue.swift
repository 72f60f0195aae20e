public import Registry

public import struct Foundation.Date

/// An issue as it was when it was read. Its texts, labels and names were written by anybody.
public struct Issue: Sendable, Hashable {
    /// Its canonical name.
    public let ref: IssueRef
    /// One line.
    public let title: String
    /// The text of its author, in whatever markup the outbox has; may be empty.
    public let body: String
    /// Every label, not only ours.
    public let labels: Set<String>
    /// Who it is assigned to.
    public let assignees: [String]
    /// Nothing automatic happens to a closed issue.
    public let isClosed: Bool
    /// It carries the label `needs-human`, or what the profile calls it: nothing automatic happens to it.
    public let isGated: Bool
    /// When anything about it was changed last, by the clock of the outbox.
    public let updatedAt: Date

    /// Puts one together.
    public init(
        ref: IssueRef, title: String, body: String, labels: Set<String>, assignees: [String], isClosed: Bool,
        isGated: Bool, updatedAt: Date
    ) {
        self.ref = ref
        self.title = title
        self.body = body
        self.labels = labels
        self.assignees = assignees
        self.isClosed = isClosed
        self.isGated = isGated
        self.updatedAt = updatedAt
    }

    /// The state that its labels tell; nil when they tell none, or more than one.
    public func state(_ names: Labels) -> TaskState? {
        let states = TaskState.allCases.filter { labels.contains(names.name(of: $0)) }
        return states.count == 1 ? states[0] : nil
    }
}

/// The state of an issue, which it carries as a label.
public enum TaskState: String, Sendable, Hashable, CaseIterable, Codable {
    /// Waits for a Lead.
    case todo
    /// A run works on it.
    case doing
    /// Something outside has to change first.
    case blocked
    /// The work is there to be looked at.
    case review
    /// Nothing is left to do.
    case done
}

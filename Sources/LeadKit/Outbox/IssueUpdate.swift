public import Registry

/// One event for an issue, and what becomes of its labels; see ``Outbox/apply(_:)``.
public struct IssueUpdate: Sendable, Hashable, Codable {
    /// The issue.
    public var issue: IssueRef
    /// What caused the update, which happens once for each: `workrun:2026-02-14-backend-0001` for the task gate, with
    /// `/claim` and the like for other events of a run. One line, and the same as in ``body``.
    public var trigger: String
    /// The state that the issue must be in; nil for any.
    public var requires: TaskState?
    /// The state that it gets; nil leaves it as it is.
    public var state: TaskState?
    /// Whether it is gated from now on.
    public var needsHuman: Bool
    /// The event's text: header lines of the form `Name: value` with `Trigger: ` and the trigger among them, a blank
    /// line, and free text.
    public var body: String

    /// Puts one together.
    public init(
        issue: IssueRef, trigger: String, requires: TaskState? = nil, state: TaskState? = nil, needsHuman: Bool = false,
        body: String
    ) {
        self.issue = issue
        self.trigger = trigger
        self.requires = requires
        self.state = state
        self.needsHuman = needsHuman
        self.body = body
    }

    /// The trigger that an event's text names; nil when it names none.
    ///
    /// Only the header counts, which ends at the first blank line: a quotation further down is free text. A line ends
    /// with LF or CRLF and with nothing else, since whoever writes a header keeps those two alone out of its values.
    public static func trigger(in body: String) -> String? {
        let name = "Trigger:".utf8
        for bytes in body.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            let line = trimmed(bytes)
            if line.isEmpty { return nil }
            if line.starts(with: name) { return String(Substring(trimmed(line.dropFirst(name.count)))) }
        }
        return nil
    }

    private static func trimmed(_ bytes: Substring.UTF8View) -> Substring.UTF8View {
        func isBlank(_ byte: UInt8) -> Bool { " \t\r".utf8.contains(byte) }
        var rest = bytes.drop(while: isBlank)
        while let last = rest.last, isBlank(last) { rest.removeLast() }
        return rest
    }
}

/// What became of an update.
public enum UpdateResult: Sendable, Hashable {
    /// It was written.
    case applied
    /// An earlier call had written it.
    case alreadyApplied
    /// The issue is gated: nothing was written.
    case gated
    /// The issue is closed: nothing was written.
    case closed
    /// The issue is not in the required state but in this one, or in none that its labels tell: nothing was written.
    case notApplicable(TaskState?)
}

/// Why a name given by a caller was not accepted: what it is, what it was, and what would be.
public struct InvalidName: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind of name, for example `run id`.
    public let kind: String
    /// The rejected text.
    public let value: String
    /// The form that is accepted.
    public let expected: String

    /// A rejection.
    public init(kind: String, value: String, expected: String) {
        self.kind = kind
        self.value = value
        self.expected = expected
    }

    /// One line for a person.
    public var description: String { "\(kind) \(value.debugDescription) is not valid: expected \(expected)" }
}

/// The canonical name of a piece of work: `org/repo#123` on a forge, `local#12` in a local outbox.
///
/// Every segment may stand in a path and in a git reference as it is, so a value of this type needs no escaping
/// there beyond ``pathComponent``.
public struct IssueRef: Hashable, Sendable, CustomStringConvertible {
    /// The text as given, which is the canonical form.
    public let description: String

    /// Parses a reference.
    /// - Throws: ``InvalidName`` when the text has another form.
    public init(_ text: String) throws(InvalidName) {
        let expected =
            "\"local#12\" or \"org/repo#123\" (segments of A-Z a-z 0-9 . _ -, a positive number without leading zeros)"
        let parts = text.split(separator: "#", omittingEmptySubsequences: false)
        guard text.utf8.count <= 200, parts.count == 2 else {
            throw InvalidName(kind: "issue", value: text, expected: expected)
        }
        let segments = parts[0].split(separator: "/", omittingEmptySubsequences: false)
        let number = parts[1].utf8
        guard segments.allSatisfy({ isSafeSegment($0) }), segments.count > 1 || parts[0] == "local",
            (1...10).contains(number.count), number.allSatisfy({ isDigit($0) }), number.first != UInt8(ascii: "0")
        else { throw InvalidName(kind: "issue", value: text, expected: expected) }
        description = text
    }

    /// The reference as one path component: `/` and `#` become `+`, which no segment contains, so two
    /// references never share a component.
    public var pathComponent: String {
        String(description.map { $0 == "/" || $0 == "#" ? "+" : $0 })
    }
}

/// One attempt at an issue: `<YYYY-MM-DD>-<role>-<seq>`, or any other safe ASCII id when the role is given apart.
public struct RunID: Hashable, Sendable, CustomStringConvertible {
    /// The text as given.
    public let description: String

    /// Parses an id of 1 to 128 characters of `A-Za-z0-9._-` that does not begin with `.` or `-`.
    /// - Throws: ``InvalidName``.
    public init(_ text: String) throws(InvalidName) {
        guard isSafeName(text, limit: 128) else {
            throw InvalidName(
                kind: "run id", value: text,
                expected: "1 to 128 characters of A-Z a-z 0-9 . _ -, not beginning with . or -")
        }
        description = text
    }

    /// The role named by an id of the form `<YYYY-MM-DD>-<role>-<seq>`; nil for other ids.
    public var role: Role? {
        let parts = description.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 5, [4, 2, 2] == parts[0..<3].map(\.utf8.count),
            parts[0..<3].allSatisfy({ $0.utf8.allSatisfy { isDigit($0) } }),
            let sequence = parts.last, !sequence.isEmpty, sequence.utf8.allSatisfy({ isDigit($0) })
        else { return nil }
        return try? Role(parts[3..<(parts.count - 1)].joined(separator: "-"))
    }
}

/// What a worker is: backend, frontend, qa, ... At most one run per issue and role is active.
public struct Role: Hashable, Sendable, CustomStringConvertible {
    /// The text as given.
    public let description: String

    /// Parses a role of 1 to 64 characters of `A-Za-z0-9._-` that does not begin with `.` or `-`.
    /// - Throws: ``InvalidName``.
    public init(_ text: String) throws(InvalidName) {
        guard isSafeName(text, limit: 64) else {
            throw InvalidName(
                kind: "role", value: text,
                expected: "1 to 64 characters of A-Z a-z 0-9 . _ -, not beginning with . or -")
        }
        description = text
    }
}

/// The key of a run: a run id counts per issue, so neither half names a run alone.
public struct RunKey: Hashable, Sendable, CustomStringConvertible {
    /// The piece of work.
    public let issue: IssueRef
    /// The attempt at it.
    public let run: RunID

    /// Pairs two names that are already valid.
    public init(issue: IssueRef, run: RunID) {
        self.issue = issue
        self.run = run
    }

    /// Parses both halves.
    /// - Throws: ``InvalidName``.
    public init(issue: String, run: String) throws(InvalidName) {
        self.init(issue: try IssueRef(issue), run: try RunID(run))
    }

    /// `issue run`, as the command line takes them.
    public var description: String { "\(issue) \(run)" }
}

private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

private func isSafeByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
    default: false
    }
}

private func isSafeName(_ text: some StringProtocol, limit: Int) -> Bool {
    (1...limit).contains(text.utf8.count) && text.utf8.allSatisfy { isSafeByte($0) }
        && text.utf8.first != UInt8(ascii: ".") && text.utf8.first != UInt8(ascii: "-")
}

/// A segment that git accepts inside a reference name. See: man git-check-ref-format.
private func isSafeSegment(_ text: Substring) -> Bool {
    isSafeName(text, limit: 100) && !text.contains("..") && !text.hasSuffix(".") && !text.hasSuffix(".lock")
}

public import WorktreeEngine

/// What a worker says of its run: `work_result.json` or `work_result.txt` in the context pack.
///
/// JSON has the keys `issue_ref`, `run_id`, `status`, and if the worker likes `pr`, `commit`, `tests` and `text`. The
/// text form has header lines `IssueRef: `, `RunId: `, `Status: `, `PR: `, `Commit: `, `Tests: ` in any order, a blank
/// line, and free text. No other key is accepted, so that a misspelt one is not taken for none.
public struct WorkResult: Sendable, Hashable {
    /// How it went, in the worker's own opinion.
    public enum Status: String, Sendable, Hashable, CaseIterable, Codable {
        /// Done.
        case ok
        /// Tried, and not achieved.
        case fail
        /// Something outside has to change first.
        case blocked
    }

    /// The issue.
    public let issue: IssueRef
    /// The run.
    public let run: RunID
    /// How it went.
    public let status: Status
    /// The pull or merge request: a number or a URL, one line.
    public let pullRequest: String?
    /// The commit: 7 to 64 hexadecimal digits.
    public let commit: String?
    /// What tests said, one line.
    public let tests: String?
    /// Free text for people.
    public let text: String

    /// The largest file that is read, in bytes.
    static let sizeLimit = 1 << 20

    /// Checks the fields of either form.
    /// - Parameter fields: by the name of ``Field``; empty ones count as missing.
    /// - Throws: ``WorkResultError`` that names the field as the form does.
    init(
        _ fields: [Field: String], text: String, path: String, expecting expected: RunKey,
        name: (Field) -> String
    ) throws(WorkResultError) {
        func malformed(_ field: Field, _ expectation: String) -> WorkResultError {
            let found = fields[field].map { String(reflecting: String($0.prefix(100))) } ?? "nothing"
            return WorkResultError(.malformed, "\(path): \(name(field)): \(found). Expected \(expectation).")
        }
        func line(_ field: Field) throws(WorkResultError) -> String? {
            guard let value = fields[field], !value.isEmpty else { return nil }
            // A line break in a value would become a header line of the event that repeats it.
            guard value.utf8.count <= 1000, !value.unicodeScalars.contains(where: { $0.breaksLine }) else {
                throw malformed(field, "one line of at most 1000 bytes without control characters")
            }
            return value
        }
        guard let issue = try line(.issue).flatMap({ try? IssueRef($0) }) else {
            throw malformed(.issue, "the issue \(expected.issue)")
        }
        guard let run = try line(.run).flatMap({ try? RunID($0) }) else {
            throw malformed(.run, "the run \(expected.run)")
        }
        guard issue == expected.issue, run == expected.run else {
            throw WorkResultError(
                .stale,
                "\(path) is the result of \(RunKey(issue: issue, run: run)) and not of \(expected). It is kept "
                    + "for a person to read, and changes nothing.")
        }
        let statuses = Status.allCases.map(\.rawValue).joined(separator: ", ")
        guard let status = try line(.status).flatMap({ Status(rawValue: $0) }) else {
            throw malformed(.status, "one of \(statuses)")
        }
        let commit = try line(.commit)
        let isCommit = commit.map { (7...64).contains($0.utf8.count) && $0.utf8.allSatisfy(\.isHexadecimal) } ?? true
        guard isCommit else { throw malformed(.commit, "7 to 64 hexadecimal digits") }
        self.issue = issue
        self.run = run
        self.status = status
        self.commit = commit
        self.text = text
        pullRequest = try line(.pullRequest)
        tests = try line(.tests)
    }

    /// What a result may say, in both forms.
    enum Field: String, CaseIterable {
        case issue = "issue_ref"
        case run = "run_id"
        case status
        case pullRequest = "pr"
        case commit
        case tests

        /// The name of the header line.
        var header: String {
            switch self {
            case .issue: "IssueRef"
            case .run: "RunId"
            case .status: "Status"
            case .pullRequest: "PR"
            case .commit: "Commit"
            case .tests: "Tests"
            }
        }
    }

    /// What another form of the same result says otherwise; nil when nothing. What only one of them says is no
    /// contradiction, and neither is free text.
    func contradiction(to other: WorkResult) -> String? {
        func differ(_ one: String?, _ other: String?) -> Bool {
            if let one, let other { one != other } else { false }
        }
        if status != other.status { return "status" }
        if differ(pullRequest, other.pullRequest) { return "pull request" }
        if differ(commit, other.commit) { return "commit" }
        if differ(tests, other.tests) { return "outcome of tests" }
        return nil
    }
}

/// Why a result is not accepted.
public struct WorkResultError: Error, Sendable, CustomStringConvertible {
    /// What is wrong with it.
    public enum Kind: String, Sendable, Hashable {
        /// It is the result of another run or issue.
        case stale
        /// It does not have the form.
        case malformed
        /// Both forms are there and say different things.
        case contradictory
        /// It is a link, a FIFO or a directory, too large, no text, or may not be read.
        case unreadable
    }

    /// What is wrong with it.
    public let kind: Kind
    /// Names the file, the reason and what is expected.
    public let message: String

    init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    /// The message.
    public var description: String { message }
}

extension Unicode.Scalar {
    /// Ends a line somewhere, or is another control character than a tab.
    fileprivate var breaksLine: Bool {
        switch properties.generalCategory {
        case .control: self != "\t"
        case .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }
}

extension UInt8 {
    fileprivate var isHexadecimal: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }
}

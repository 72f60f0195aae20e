import WorktreeEngine

/// The text of an event: header lines, a blank line, free text. The one place that knows its form.
///
/// Values may hold anything that a worker, a repository or a forge has said. A header line never holds a line end, so no
/// value can add a header or end it. Free text stands in a fenced block, where a forge runs no command of a line that
/// begins with `/`, closes no issue and calls nobody. See: GitLab, "Quick actions"; GitHub, "Mentioning people and teams"
struct EventText {
    /// What was done: `claim`, `switch`, `finish`, `spawn`, `cleanup`.
    var action: String
    /// How it went: a task state, or the outcome of the run.
    var status: String
    var reason: String?
    var remedy: String?
    var next: String
    /// More headers, in this order.
    var more: [(name: String, value: String?)] = []
    /// Text of others, shown as it is.
    var quoted: String?
    /// Commands of a recovery path, one a line.
    var commands: [String] = []

    /// The whole text.
    func body(_ key: RunKey, trigger: String) -> String {
        let headers: [(String, String?)] =
            [
                ("IssueRef", key.issue.description), ("RunId", key.run.description), ("Action", action),
                ("Status", status),
            ]
            + more.map { ($0.name, $0.value) }
            + [("Reason", reason), ("Remedy", remedy), ("Next", next), ("Trigger", trigger)]
        var text = headers.compactMap { name, value in value.map { "\(name): \(Self.line($0))" } }
            .joined(separator: "\n")
        if !commands.isEmpty { text += "\n\n\(Self.fenced(commands.joined(separator: "\n"), "sh"))" }
        if let quoted, !quoted.isEmpty { text += "\n\n\(Self.fenced(quoted, "text"))" }
        return text + "\n"
    }

    /// Text on one line, at most 1,000 characters; control characters become spaces.
    static func line(_ text: String) -> String {
        var line = ""
        for scalar in text.unicodeScalars {
            let isControl = [.control, .format, .lineSeparator, .paragraphSeparator]
                .contains(scalar.properties.generalCategory)
            // Runs of blanks, such as the indentation of a list, become one.
            if isControl || scalar == " " {
                if line.last != " " { line.append(" ") }
            } else {
                line.unicodeScalars.append(scalar)
            }
        }
        return line.count > 1000 ? "\(line.prefix(1000))..." : line
    }

    /// A block that its own content cannot end. GitHub takes 65,536 characters of a comment; half of that is left here.
    private static func fenced(_ text: String, _ language: String) -> String {
        let shown = String(String.UnicodeScalarView(text.unicodeScalars.prefix(32_000)))
        let longest = shown.split { $0 != "`" }.map(\.count).max() ?? 0
        let fence = String(repeating: "`", count: max(3, longest + 1))
        let visible = String(
            String.UnicodeScalarView(
                shown.unicodeScalars.filter { $0 == "\n" || $0 == "\t" || $0.properties.generalCategory != .control }))
        let end = shown.utf8.count < text.utf8.count ? "\n(cut; the context pack has all of it)" : ""
        return "\(fence)\(language)\n\(visible)\(visible.hasSuffix("\n") ? "" : "\n")\(fence)\(end)"
    }
}

import Foundation

/// The access token of a forge. Nothing that describes it shows it.
struct Token: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private let text: String

    /// Takes a text without the white space around it; nil when the rest is not what a header may hold as one word.
    init?(_ text: String) {
        self.text = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard !self.text.isEmpty, self.text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
    }

    /// The token from the environment: `GITHUB_TOKEN`, else `GH_TOKEN`, or `GITLAB_TOKEN`.
    /// - Throws: ``OutboxError`` of the kind ``OutboxError/Kind/refused``.
    static func read(for kind: ForgeKind, from environment: [String: String]) throws(OutboxError) -> Token {
        let variables = kind.tokenVariables
        guard let name = variables.first(where: { environment[$0]?.isEmpty == false }), let text = environment[name]
        else {
            throw OutboxError(
                .refused,
                "there is no token for \(kind.title). Set \(variables.joined(separator: " or ")) to a token of the user "
                    + "that the Lead writes as; it must be allowed to read and write issues.")
        }
        guard let token = Token(text) else {
            throw OutboxError(
                .refused,
                "$\(name) is no token: it holds white space or characters beyond ASCII. Set it to the token alone."
            )
        }
        return token
    }

    /// The value of an HTTP header. For the request itself, and for nothing that anybody might read.
    func header(_ prefix: String = "") -> String { prefix + text }

    /// A text from elsewhere without the token, should it be quoted in there.
    func removed(from other: String) -> String { other.replacing(text, with: description) }

    /// Says that it is a token.
    var description: String { "<token>" }
    /// As ``description``.
    var debugDescription: String { description }
    /// Without children.
    var customMirror: Mirror { Mirror(self, children: [:]) }
}

extension ForgeKind {
    /// As people write it.
    var title: String {
        switch self {
        case .github: "GitHub"
        case .gitlab: "GitLab"
        }
    }

    /// The variables that may hold the token, the first one that is set counts.
    var tokenVariables: [String] {
        switch self {
        case .github: ["GITHUB_TOKEN", "GH_TOKEN"]
        case .gitlab: ["GITLAB_TOKEN"]
        }
    }
}

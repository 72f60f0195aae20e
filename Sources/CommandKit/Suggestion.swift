import WorktreeEngine

/// The commands in messages, made complete: the engine does not know how the user named the state directory.
package enum Suggestion {
    /// ` --state DIR` when it was given. Looks at the arguments themselves, since an error has no options to ask.
    package static let options: String = {
        let arguments = Array(CommandLine.arguments.prefix { $0 != "--" })
        var state: String?
        for (index, argument) in arguments.enumerated() {
            if argument == "--state", index + 1 < arguments.count { state = arguments[index + 1] }
            if argument.hasPrefix("--state=") { state = String(argument.dropFirst("--state=".count)) }
        }
        return state.map { " --state \(shellQuoted($0))" } ?? ""
    }()

    /// Text whose commands stand in backticks. A quoted word in a command may hold a backtick.
    package static func complete(_ text: String) -> String {
        text.replacing(/`(wtengine (?:'[^']*'|[^`'])*)`/) { "`\($0.output.1)\(options)`" }
    }

    /// A remedy, which ends with its command unless that stands in backticks.
    package static func completeRemedy(_ remedy: String) -> String {
        let completed = complete(remedy)
        return completed == remedy && remedy.contains("wtengine ") ? remedy + options : completed
    }
}

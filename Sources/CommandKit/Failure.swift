package import ArgumentParser
package import WorktreeEngine

/// What the process exits with.
package enum ExitStatus: Int32 {
    case failed = 1
    case stale = 2
    case blocked = 3
    case needsHuman = 4
    /// Work is at risk; the plan was printed.
    case refused = 5
    case usage = 64

    package init(_ error: EngineError) {
        self =
            switch (error.code, error.disposition) {
            case (.stale, _): .stale
            case (.workAtRisk, _): .refused
            case (.invalidInput, _): .usage
            case (_, .retry): .failed
            case (_, .blocked): .blocked
            case (_, .needsHuman): .needsHuman
            }
    }

    /// Ends the command with this status; what there was to say has been said.
    package var code: ExitCode { ExitCode(rawValue) }
}

/// A failure that the command line finds itself, in the form of ``EngineError``.
package struct Failure: Error, CustomStringConvertible {
    package let code: EngineError.Code
    package let message: String
    package let disposition: EngineError.Disposition
    /// As of ``EngineError``.
    package let mayRepeat: Bool
    package let status: ExitStatus
    /// The plan as it is now, for a cleanup that was refused because things changed.
    package var plan: (text: String, json: JSON)?

    package init(
        _ code: EngineError.Code, _ message: String, _ disposition: EngineError.Disposition = .retry,
        mayRepeat: Bool = false, status: ExitStatus = .failed
    ) {
        self.code = code
        self.message = Suggestion.complete(message)
        self.disposition = disposition
        self.mayRepeat = mayRepeat
        self.status = status
    }

    package init(_ error: EngineError) {
        self.init(
            error.code, error.message, error.disposition, mayRepeat: error.mayRepeat, status: ExitStatus(error))
    }

    /// Wrong usage, found after the arguments were parsed.
    package static func usage(_ message: String) -> Failure { Failure(.usage, message, status: .usage) }

    /// What the argument parser shows when a value could not be read.
    package var description: String { message }

    private var json: JSON {
        let error: JSON = [
            "code": .text(code.rawValue), "message": .text(message), "disposition": .text(disposition.rawValue),
            "mayRepeat": .bool(mayRepeat),
        ]
        return if let plan { ["error": error, "plan": plan.json] } else { ["error": error] }
    }

    private func tell() {
        if wantsJSON { return Console.tell(json.description) }
        if let plan { Console.tell(plan.text) }
        Console.tell("wtengine: \(code): \(message)")
    }

    /// Says on stderr why a command failed.
    /// - Parameter root: the command line that was parsed.
    /// - Returns: what the process exits with.
    package static func report(_ error: any Error, from root: any ParsableCommand.Type) -> Int32 {
        switch error {
        case let error as ExitCode: return error.rawValue
        case let error as Failure: return error.reported
        case let error as EngineError: return Failure(error).reported
        case let error as InvalidName: return Failure(.invalidInput, error.description, status: .usage).reported
        default: return reportParsing(error, root)
        }
    }

    private var reported: Int32 {
        tell()
        return status.rawValue
    }

    /// Errors of the argument parser, and its answers to `--help`, `--version` and the like, which it throws as well.
    private static func reportParsing(_ error: any Error, _ root: any ParsableCommand.Type) -> Int32 {
        if root.exitCode(for: error).isSuccess { root.exit(withError: error) }
        if wantsJSON { return usage(root.message(for: error)).reported }
        let text = root.fullMessage(for: error)
        return usage(String(text.trimmingPrefix("Error: "))).reported
    }

    /// Looks at the arguments themselves, since a command that could not be parsed has no options to ask.
    private static let wantsJSON = CommandLine.arguments.prefix { $0 != "--" }.contains("--json")
    private var wantsJSON: Bool { Self.wantsJSON }
}

extension EngineError.Code {
    /// The arguments are not those of a command.
    package static let usage = Self(rawValue: "WT-USAGE")
}

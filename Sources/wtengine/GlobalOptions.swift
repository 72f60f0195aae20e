import ArgumentParser
import Foundation
import WorktreeEngine

/// What every command takes.
struct GlobalOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The state directory. (default: $WTENGINE_STATE, or see `wtengine --help`)", valueName: "dir"))
    var state: String?

    @Flag(help: "Print one JSON document instead of text; errors too, on stderr.")
    var json = false

    func validate() throws {
        if state == "" { throw ValidationError("--state is empty: give a directory, or leave the option out.") }
    }

    /// Opens the engine as the state directory's config.toml says.
    func openEngine() async throws -> Engine { try await Engine.open(try configuration()) }

    /// Reads config.toml.
    func configuration() throws -> Configuration {
        var configuration = try ConfigurationFile.load(state: try stateDirectory())
        // A command ends before a refill would.
        configuration.refillsPools = false
        return configuration
    }

    /// Prints the answer in the form that was asked for.
    func answer(json document: @autoclosure () -> JSON, text: @autoclosure () -> String) throws {
        try Console.answer(json ? document().description : text())
    }

    /// An empty variable counts as unset.
    private func stateDirectory() throws -> String {
        let environment = ProcessInfo.processInfo.environment.filter { !$0.value.isEmpty }
        if let given = state ?? environment["WTENGINE_STATE"] { return try absolutePath(given) }
        // "If an implementation encounters a relative path [...] it should consider the path invalid and ignore it."
        // See: https://specifications.freedesktop.org/basedir-spec/latest/
        if let base = environment["XDG_STATE_HOME"], base.hasPrefix("/") { return "\(base)/wtengine" }
        guard let home = environment["HOME"] else {
            throw Failure.usage(
                "there is no state directory: $HOME is not set. Name one with --state or $WTENGINE_STATE.")
        }
        return try absolutePath("\(home)/.local/state/wtengine")
    }
}

/// A path from the root, with no regard to links.
func absolutePath(_ path: String) throws -> String {
    if path.hasPrefix("/") { return path }
    let current = FileManager.default.currentDirectoryPath
    guard current.hasPrefix("/") else {
        throw Failure(
            .system,
            "\(path.debugDescription) cannot be resolved: the current directory is gone. Give an absolute path.")
    }
    return "\(current)/\(path)"
}

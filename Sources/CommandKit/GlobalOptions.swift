package import ArgumentParser
import Foundation
import Glibc
import Settings
package import WorktreeEngine

/// What every command takes.
package struct GlobalOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The state directory. (default: $WTENGINE_STATE, or see `wtengine --help`)", valueName: "dir"))
    package var state: String?

    @Flag(help: "Print one JSON document instead of text; errors too, on stderr.")
    package var json = false

    package init() {}

    package func validate() throws {
        if state == "" { throw ValidationError("--state is empty: give a directory, or leave the option out.") }
    }

    /// Opens the engine as the state directory's config.toml says.
    package func openEngine() async throws -> Engine { try await Engine.open(try configuration()) }

    /// Opens the engine to look at what is there. Nothing is made in a state directory without a registry, so that a
    /// misspelt one stays as it is; a person is told.
    /// - Returns: nil when there is no registry, and so no run and no pool.
    package func openToLook() async throws -> Engine? {
        let configuration = try configuration()
        if access(configuration.registryPath, F_OK) == 0 || errno != ENOENT && errno != ENOTDIR {
            return try await Engine.open(configuration)
        }
        if Console.isRead, !json {
            Console.tell(
                "There is no registry in \(configuration.state): no run was created with this state directory.")
        }
        return nil
    }

    /// Why nothing is known where there is no registry.
    package func noRegistry(_ what: String) throws -> Failure {
        Failure(
            .unknownRun,
            "\(what): there is no registry in \(try stateDirectory()). Name the state directory of its run with --state or "
                + "$WTENGINE_STATE.")
    }

    /// Reads config.toml.
    package func configuration() throws -> Configuration {
        let state = try stateDirectory()
        var configuration: Configuration
        do { configuration = try ConfigurationFile.load(state: state) } catch {
            throw Failure(.configuration, error.description, .needsHuman, status: .needsHuman)
        }
        // A command ends before a refill would.
        configuration.refillsPools = false
        return configuration
    }

    /// Prints the answer in the form that was asked for.
    package func answer(json document: @autoclosure () -> JSON, text: @autoclosure () -> String) throws {
        try Console.answer(json ? document().description : text())
    }

    /// An empty variable counts as unset.
    package func stateDirectory() throws -> String {
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
package func absolutePath(_ path: String) throws -> String {
    if path.hasPrefix("/") { return path }
    let current = FileManager.default.currentDirectoryPath
    guard current.hasPrefix("/") else {
        throw Failure(
            .system,
            "\(path.debugDescription) cannot be resolved: the current directory is gone. Give an absolute path.")
    }
    return "\(current)/\(path)"
}

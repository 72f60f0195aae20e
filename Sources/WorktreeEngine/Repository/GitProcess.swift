import Foundation
import Glibc
import Subprocess
import SystemPackage

/// Runs git for the repositories that libgit2 cannot serve.
///
/// No `GIT_*` variable of the caller reaches it, no hook or file system monitor runs, nothing prompts, and it has a time limit.
struct GitProcess: Sendable {
    let timeout: Duration

    struct Result: Sendable {
        let status: Int32
        let output: [UInt8]
        let message: String

        var text: String {
            String(decoding: output, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        }
    }

    /// Runs git and returns what it said, also when it failed.
    /// - Parameter directory: as `git -C`; nil for none.
    /// - Throws: ``EngineError`` when git cannot be started, runs too long or says more than 256 MiB.
    func run(in directory: String?, _ arguments: [String]) async throws -> Result {
        let all =
            (directory.map { ["-C", $0] } ?? []) + [
                "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false",
            ]
            + arguments
        return try await withThrowingTaskGroup(of: Result?.self) { group in
            group.addTask { try await Self.collect(all) }
            group.addTask { [timeout] in
                try await Task.sleep(for: timeout)
                return nil
            }
            defer { group.cancelAll() }
            guard let result = try await group.next() ?? nil else {
                throw EngineError(
                    .git, .retry,
                    "`git \(arguments.joined(separator: " "))` took longer than \(timeout) and was ended. Raise [git] "
                        + "timeout in config.toml, or find out what it waits for.")
            }
            return result
        }
    }

    /// Runs git and throws its own words when it failed.
    @discardableResult
    func require(in directory: String?, _ arguments: [String]) async throws -> Result {
        let result = try await run(in: directory, arguments)
        guard result.status == 0 else {
            throw EngineError(
                .git, .needsHuman,
                "`git \(arguments.joined(separator: " "))`\(directory.map { " in \($0)" } ?? "") failed with status "
                    + "\(result.status): \(result.message)")
        }
        return result
    }

    private static func collect(_ arguments: [String]) async throws -> Result {
        var options = PlatformOptions()
        // A session of its own: a helper that asks for a password has no terminal to ask on.
        options.createSession = true
        options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(5))]
        do {
            let result = try await Subprocess.run(
                .name("git"), arguments: Arguments(arguments), environment: .custom(environment),
                platformOptions: options,
                input: .none, output: .bytes(limit: 256 << 20), error: .string(limit: 4 << 20))
            let status: Int32 =
                switch result.terminationStatus {
                case .exited(let code): code
                case .signaled(let signal): 128 + signal
                }
            return Result(
                status: status, output: result.standardOutput,
                message: result.standardError.trimmingCharacters(in: .whitespacesAndNewlines))
        } catch let error as SubprocessError {
            throw EngineError(
                .git, .blocked, "git could not be run: \(error). Install git 2.36 or later and put it in PATH.",
                cause: error)
        }
    }

    private static var environment: [Subprocess.Environment.Key: String] {
        var kept: [Subprocess.Environment.Key: String] = [:]
        // No token of a forge: a filter that somebody has configured in the repository would see it.
        for (name, value) in ProcessInfo.processInfo.environment
        where !name.hasPrefix("GIT_") && !["GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN"].contains(name) {
            kept[Subprocess.Environment.Key(stringLiteral: name)] = value
        }
        kept["GIT_TERMINAL_PROMPT"] = "0"
        kept["GIT_ASKPASS"] = "true"
        kept["SSH_ASKPASS"] = "true"
        kept["GIT_OPTIONAL_LOCKS"] = "0"
        kept["LC_ALL"] = "C"
        return kept
    }
}

import Foundation
import Glibc
import Subprocess
import SystemPackage

/// Runs git for the repositories that libgit2 cannot serve.
///
/// No `GIT_*` variable of the caller reaches it, no hook, file system monitor or signature check runs, nothing prompts, and it has a time limit.
struct GitProcess: Sendable {
    let timeout: Duration
    /// No transport works, not even to fetch what a partial clone lacks.
    var isOffline = false
    /// Settings that win over the repository's, each `name=value`.
    var settings: [String] = []

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
    /// - Throws: ``EngineError`` when git cannot be started or runs too long; one that says more than 256 MiB fails;
    ///   `CancellationError` when the task is cancelled, after git and what it had started have ended.
    func run(in directory: String?, _ arguments: [String]) async throws -> Result {
        let all =
            (directory.map { ["-C", $0] } ?? []) + [
                "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false",
                // It would run `gpg.program`.
                "-c", "log.showSignature=false",
            ] + settings.flatMap { ["-c", $0] } + arguments
        try Task.checkCancellation()
        let result: Result?
        do { result = try await limited(all) } catch {
            // However its end looks from here, the cancellation is the reason.
            try Task.checkCancellation()
            throw error
        }
        guard let result else {
            throw EngineError(
                .git, .retry,
                "`git \(arguments.joined(separator: " "))` took longer than \(timeout) and was ended. Raise [git] "
                    + "timeout in config.toml, or find out what it waits for.")
        }
        if result.status != 0 { try Task.checkCancellation() }
        return result
    }

    /// - Returns: nil when the time was over.
    private func limited(_ arguments: [String]) async throws -> Result? {
        let session = GitSession()
        let work = Task { [isOffline] in try await Self.collect(arguments, session, isOffline: isOffline) }
        let clock = Task { [timeout] in
            try await Task.sleep(for: timeout)
            session.end(isOverdue: true)
        }
        defer { clock.cancel() }
        let result = await withTaskCancellationHandler {
            await work.result
        } onCancel: {
            session.end()
        }
        return session.isOverdue ? nil : try result.get()
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

    /// The same without any transport: a remote's configuration may name a program as one.
    var offline: GitProcess {
        var git = self
        git.isOffline = true
        return git
    }

    /// The same for a git directory that an agent may have made: offline, and no filter program runs, whoever configured
    /// it, since such a program may read settings of the repository that name others. What such a filter would have
    /// changed then counts as modified.
    /// - Throws: ``CannotLook`` for a filter whose name cannot be given to git.
    func confined(to gitDir: String) async throws -> GitProcess {
        var git = offline
        let listed = try await git.run(
            in: nil, ["--git-dir=\(gitDir)", "config", "--name-only", "-z", "--get-regexp", "^filter\\."])
        // 1 says that there is none. See: man git-config
        guard listed.status <= 1 else {
            throw CannotLook(reason: "its configuration cannot be read: \(listed.message)")
        }
        for name in Set(listed.output.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }).sorted() {
            let filter = name.prefix(upTo: name.lastIndex(of: ".") ?? name.endIndex)
            // `-c` takes the name up to the first `=`, and bytes that are no text would name another filter.
            guard !filter.contains("="), !filter.contains("\u{FFFD}") else {
                throw CannotLook(reason: "its configuration names an odd filter, \(filter)")
            }
            git.settings += ["\(filter).clean=", "\(filter).process=", "\(filter).required=false"]
        }
        return git
    }

    private static func collect(
        _ arguments: [String], _ session: GitSession, isOffline: Bool
    ) async throws -> Result {
        defer { session.ended() }
        var options = PlatformOptions()
        // A session of its own: a helper that asks for a password has no terminal to ask on, and the whole of it can be
        // ended. git works through processes of its own, as `reset` for `worktree add`.
        options.createSession = true
        do {
            let output = try MemoryFile(limit: 256 << 20)
            let message = try MemoryFile(limit: 4 << 20)
            let result = try await Subprocess.run(
                .name("git"), arguments: Arguments(arguments), environment: .custom(environment(isOffline: isOffline)),
                platformOptions: options,
                input: .none, output: .fileDescriptor(output.descriptor, closeAfterSpawningProcess: false),
                error: .fileDescriptor(message.descriptor, closeAfterSpawningProcess: false)
            ) { session.began($0.processIdentifier.value) }
            if session.isEnding { try await session.waitForRest() }
            let status: Int32 =
                switch result.terminationStatus {
                case .exited(let code): code
                case .signaled(let signal): 128 + signal
                }
            return Result(
                status: status, output: try output.bytes(),
                message: String(decoding: try message.bytes(), as: UTF8.self)
                    .trimmingCharacters(in: .whitespacesAndNewlines))
        } catch let error as SubprocessError {
            if session.isEnding { try await session.waitForRest() }
            throw EngineError(
                .git, .blocked, "git could not be run: \(error). Install git 2.36 or later and put it in PATH.",
                cause: error)
        }
    }

    private static func environment(isOffline: Bool) -> [Subprocess.Environment.Key: String] {
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
        // See: man git (GIT_ALLOW_PROTOCOL)
        if isOffline { kept["GIT_ALLOW_PROTOCOL"] = "" }
        return kept
    }
}

import Foundation
import Glibc

/// One run: every repository after the other, in a workspace of its own.
@MainActor
struct Bench {
    var directory: String
    var repositories: [String]
    var generated: [Int]
    var effort: Effort
    var tools: Stage.Tools

    /// - Parameter keep: is given what has been measured so far, after each repository: the whole takes long.
    func run(_ keep: (Results) throws -> Void) async throws -> Results {
        try checkTools()
        let workspace = try Workspace(in: directory)
        let signals = workspace.removeOnSignals()
        defer { signals.forEach { $0.cancel() } }
        do {
            try Self.isolate(workspace)
            var results = Results(machine: try await Machine(directory: workspace.path, wtengine: tools.wtengine))
            for count in generated {
                let source = "\(workspace.path)/source-\(count)"
                Console.tell("making a repository of \(count) files")
                try await Generator.make(files: count, at: source)
                results.subjects.append(try await measure(source, "generated-\(count)", workspace))
                try keep(results)
                try await Command.require(["rm", "-rf", "--", source])
            }
            for path in repositories {
                results.subjects.append(try await measure(path, try Self.name(path), workspace))
                results.machine.loadAfter = Machine.load
                try keep(results)
            }
            results.machine.loadAfter = Machine.load
            try await workspace.remove()
            return results
        } catch {
            try? await workspace.remove()
            throw error
        }
    }

    private func measure(_ source: String, _ name: String, _ workspace: Workspace) async throws -> SubjectResult {
        let subject = try await Subject(cloning: source, name: name, into: "\(workspace.path)/repository-\(name)")
        Console.tell("\(name): \(subject.files) files")
        let stage = try await Stage(subject, workspace, tools, effort)
        let steps: [(String, () async throws -> Void)] = [
            ("spawn, status, removal", Spawns(stage: stage).run),
            ("pool and snapshots", Warm(stage: stage).run),
            ("spawns by a Lead", LeadSpawns(stage: stage).run),
            ("burst", Burst(stage: stage).run),
            ("sustained", Sustained(stage: stage).run),
            ("command", CommandLine(stage: stage).run),
        ]
        for (what, step) in steps {
            let (time, _) = try await timed(step)
            Console.tell("  \(what): \(time / 1_000_000_000) s")
        }
        try await stage.end()
        return stage.result
    }

    private func checkTools() throws {
        for tool in [tools.wtengine, tools.peakmemory] where access(tool, X_OK) != 0 {
            throw Failure("\(tool) is not there. `scripts/bench` builds everything that is needed.")
        }
    }

    /// Nothing of the user's configuration, nor of a git that called us, changes what is measured.
    static func isolate(_ workspace: Workspace) throws {
        let home = try workspace.directory("home")
        for name in ProcessInfo.processInfo.environment.keys where name.hasPrefix("GIT_") || name.hasPrefix("WTENGINE_")
        {
            unsetenv(name)
        }
        unsetenv("XDG_CONFIG_HOME")
        setenv("HOME", home, 1)
        setenv("GIT_CONFIG_NOSYSTEM", "1", 1)
        setenv("GIT_TERMINAL_PROMPT", "0", 1)
        setenv("LC_ALL", "C", 1)
        // The clone below, and libgit2 within the engine, read repositories that may belong to another user.
        try Files.write("[safe]\n\tdirectory = *\n", "\(home)/.gitconfig")
    }

    private static func name(_ path: String) throws -> String {
        let name = URL(fileURLWithPath: path).standardizedFileURL.lastPathComponent.replacing(".git", with: "")
        guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 != UInt8(ascii: "|") }) else {
            throw Failure("\(path.debugDescription) gives no name for the report. Name the directory, not `.`.")
        }
        return name
    }
}

import Foundation
import Subprocess
import SystemPackage
import TestSupport
import WorktreeEngine

/// What a run of the `wtengine` executable answered.
struct Answer: Sendable {
    let status: Int32
    let output: String
    let message: String

    /// The one JSON document of the output.
    var json: Any { get throws { try JSONSerialization.jsonObject(with: Data(output.utf8)) } }

    var object: [String: Any] { get throws { try json as? [String: Any] ?? [:] } }
    var array: [[String: Any]] { get throws { try json as? [[String: Any]] ?? [] } }
}

/// The executable that was built beside this test, with a state directory of its own.
struct Tool: Sendable {
    let state: String

    init(_ scratch: Scratch, config: String = "[limits]\ndisk_reserve = 0\n") throws {
        state = "\(scratch.path)/state"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        try config.write(toFile: "\(state)/config.toml", atomically: true, encoding: .utf8)
    }

    static let path = product("wtengine")

    static func product(_ name: String) -> String { builtProgram(name) }

    /// Runs the tool.
    /// - Parameters:
    ///   - wrapper: a command that starts it, such as `setpriv`.
    ///   - environment: changes; nil removes a variable.
    func callAsFunction(
        _ arguments: String..., wrapper: [String] = [], environment: [String: String?] = [:], directory: String? = nil
    ) async throws -> Answer {
        try await run(arguments, wrapper: wrapper, environment: environment, directory: directory)
    }

    /// - Parameter program: another executable, which uses the same state directory.
    func run(
        _ arguments: [String], wrapper: [String] = [], environment: [String: String?] = [:], directory: String? = nil,
        program: String = Tool.path
    ) async throws -> Answer {
        var variables: [Subprocess.Environment.Key: String?] = [
            "WTENGINE_STATE": state, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
        ]
        for (name, value) in environment { variables[.init(stringLiteral: name)] = .some(value) }
        let command = wrapper + [program] + arguments
        let output = try MemoryFile(limit: 16 << 20)
        let message = try MemoryFile(limit: 16 << 20)
        let result = try await Subprocess.run(
            .path(FilePath(command[0])), arguments: Arguments(Array(command.dropFirst())),
            environment: .inherit.updating(variables), workingDirectory: FilePath(directory ?? state), input: .none,
            output: .fileDescriptor(output.descriptor, closeAfterSpawningProcess: false),
            error: .fileDescriptor(message.descriptor, closeAfterSpawningProcess: false))
        let status: Int32 =
            switch result.terminationStatus {
            case .exited(let code): code
            case .signaled(let signal): 128 + signal
            }
        return Answer(
            status: status, output: String(decoding: try output.bytes(), as: UTF8.self),
            message: String(decoding: try message.bytes(), as: UTF8.self))
    }

    /// Spawns a run and returns the path that was printed.
    func spawn(_ repository: TestRepository, issue: String, run: String, more: [String] = []) async throws -> String {
        let answer = try await self.run(
            ["spawn", "--repo", repository.path, "--issue", issue, "--run", run] + more)
        guard answer.status == 0 else { throw CommandFailure(description: "spawn: \(answer)") }
        return answer.output.trimmingCharacters(in: .newlines)
    }

    /// The token of the cleanup plan as things are now.
    func token(_ issue: String, _ run: String) async throws -> String {
        try await self("cleanup", issue, run, "--json").object["token"] as? String ?? ""
    }
}

struct CommandFailure: Error, CustomStringConvertible {
    let description: String
}

import Foundation
import Glibc
import Logging
import Subprocess
import SystemPackage
public import WorktreeEngine

/// A directory of its own for one test, removed when the test ends.
public final class Scratch: Sendable {
    /// The real path.
    public let path: String

    /// Makes the directory below the system's temporary directory, or below `$WTENGINE_TEST_DIR`, so that the same tests
    /// can run on another filesystem.
    /// - Parameter directory: another place.
    public init(below directory: String? = nil) throws {
        let base = directory ?? ProcessInfo.processInfo.environment["WTENGINE_TEST_DIR"] ?? NSTemporaryDirectory()
        let made = "\(base)/wtengine-test-\(UUID().uuidString)"
        TestGuard.add(made)
        try FileManager.default.createDirectory(atPath: made, withIntermediateDirectories: true)
        guard let real = realpath(made, nil) else { throw CocoaError(.fileNoSuchFile) }
        defer { free(real) }
        path = String(cString: real)
    }

    deinit {
        // Never delete through a mount.
        let name = (path as NSString).lastPathComponent
        if (try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8))?.contains("/\(name)/") == true {
            print("not removed, because a filesystem is mounted in it: \(path)")
            return
        }
        // Tests make directories read-only on purpose.
        if let names = FileManager.default.enumerator(atPath: path) {
            for case let name as String in names
            where (try? FileManager.default.attributesOfItem(atPath: "\(path)/\(name)"))?[.type] as? FileAttributeType
                == .typeDirectory
            {
                chmod("\(path)/\(name)", 0o700)
            }
        }
        // An engine's background may still be unlinking in there, which makes this fail half-way.
        for _ in 0..<200 {
            try? FileManager.default.removeItem(atPath: path)
            if access(path, F_OK) != 0 { return }
            usleep(10_000)
        }
    }

    /// A configuration with its state directory in here, and no disk reserve.
    public func configuration() -> WorktreeEngine.Configuration {
        var configuration = WorktreeEngine.Configuration(state: "\(path)/state")
        configuration.diskReserve = 0
        configuration.actor = "test"
        return configuration
    }

    /// An engine with its state directory in here.
    public func engine(_ change: (inout WorktreeEngine.Configuration) -> Void = { _ in }) async throws -> Engine {
        var configuration = configuration()
        change(&configuration)
        // What the log says is not under test; a failure shows as a thrown error or a wrong state.
        var logger = Logger(label: "wtengine.test")
        logger.logLevel = .critical
        return try await Engine.open(configuration, logger: logger)
    }

    /// Makes a repository with one commit; see ``TestRepository``.
    public func repository(
        _ name: String = "repo", _ files: [TestFile] = TestFile.assorted, arguments: [String] = []
    ) async throws -> TestRepository {
        try await TestRepository(path: "\(path)/\(name)", files: files, arguments: arguments)
    }
}

/// A failed command.
public struct CommandError: Error, CustomStringConvertible {
    /// The command and what it said.
    public let description: String

    /// Creates an error for something other than a command.
    public init(description: String) { self.description = description }
}

/// Runs a command, without the caller's git configuration, and returns its standard output.
/// - Parameter expecting: the status that is no failure; nil for any.
/// - Throws: ``CommandError`` when it ends otherwise.
@discardableResult
public func run(
    _ command: [String], in directory: String, expecting status: Int32? = 0, environment: [String: String] = [:]
) async throws -> String {
    var variables: [Subprocess.Environment.Key: String?] = [
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "t@example.org", "LC_ALL": "C",
    ]
    for (name, value) in environment { variables[.init(stringLiteral: name)] = value }
    // Into memory, which nobody has to read meanwhile.
    let output = try MemoryFile(limit: 64 << 20)
    let message = try MemoryFile(limit: 1 << 20)
    let result = try await Subprocess.run(
        .name(command[0]), arguments: Arguments(Array(command.dropFirst())),
        environment: .inherit.updating(variables), workingDirectory: FilePath(directory), input: .none,
        output: .fileDescriptor(output.descriptor, closeAfterSpawningProcess: false),
        error: .fileDescriptor(message.descriptor, closeAfterSpawningProcess: false))
    let text = String(decoding: try output.bytes(), as: UTF8.self)
    if let status, result.terminationStatus != .exited(status) {
        throw CommandError(
            description:
                "\(command.joined(separator: " ")): \(result.terminationStatus)\n\(text)\(String(decoding: try message.bytes(), as: UTF8.self))"
        )
    }
    return text
}

/// Runs git; see ``run(_:in:expecting:environment:)``.
@discardableResult
public func git(_ arguments: String..., in directory: String, expecting status: Int32? = 0) async throws -> String {
    try await run(["git"] + arguments, in: directory, expecting: status)
}

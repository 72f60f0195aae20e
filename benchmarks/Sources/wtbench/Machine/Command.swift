import CBaseline
import Foundation
import Glibc

/// What went wrong, and what to do about it.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }

    /// For a call that left errno.
    init(errno call: String, _ path: String) { description = "\(call) \(path): \(String(cString: strerror(errno)))" }
}

/// A process that has ended.
struct Outcome: Sendable {
    let status: Int32
    let output: String
    let message: String
    /// From before the start of the process until it was waited for.
    let nanoseconds: UInt64
}

/// Starts processes and waits for them, each on a thread of its own: the cooperative pool has only as many threads as
/// cores, and waiting blocks one.
enum Command {
    /// Runs a command to its end.
    /// - Parameter input: a file for its stdin; nil for nothing.
    static func run(_ arguments: [String], input: String = "/dev/null") async throws -> Outcome {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(with: Result { try runBlocking(arguments, input) })
            }
        }
    }

    /// Runs a command that must succeed.
    @discardableResult
    static func require(_ arguments: [String], input: String = "/dev/null") async throws -> Outcome {
        let outcome = try await run(arguments, input: input)
        guard outcome.status == 0 else {
            let words = [outcome.message, outcome.output].map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
            throw Failure(
                "`\(arguments.joined(separator: " "))` ended with status \(outcome.status): "
                    + "\(words.first { !$0.isEmpty } ?? "it said nothing")")
        }
        return outcome
    }

    private static func runBlocking(_ arguments: [String], _ input: String) throws -> Outcome {
        var pipes: [Int32] = [0, 0]
        guard bench_pipe(&pipes) == 0 else { throw Failure(errno: "pipe2", "") }
        defer { close(pipes[0]) }
        // A file, since what nobody reads from a second pipe would block the process.
        guard let messages = tmpfile() else { throw Failure(errno: "tmpfile", "") }
        defer { fclose(messages) }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 1)
        posix_spawn_file_actions_adddup2(&actions, fileno(messages), 2)
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { words.forEach { free($0) } }

        let began = ContinuousClock.now
        var pid: pid_t = 0
        let error = posix_spawnp(&pid, arguments[0], &actions, nil, &words, environ)
        close(pipes[1])
        guard error == 0 else {
            throw Failure("\(arguments[0]) cannot be started: \(String(cString: strerror(error))). Is it in PATH?")
        }
        let output = try readAll(pipes[0])
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { throw Failure(errno: "waitpid", arguments[0]) }
        }
        let nanoseconds = (ContinuousClock.now - began).nanoseconds
        rewind(messages)
        // See: man 2 wait, WIFEXITED and WEXITSTATUS, which are macros.
        let code = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
        return Outcome(
            status: code, output: String(decoding: output, as: UTF8.self),
            message: String(decoding: try readAll(fileno(messages)), as: UTF8.self), nanoseconds: nanoseconds)
    }

    private static func readAll(_ descriptor: Int32) throws -> [UInt8] {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Failure(errno: "read", "the output of a process") }
            if count == 0 { return all }
            all += buffer[..<count]
        }
    }
}

extension Duration {
    /// As whole nanoseconds.
    var nanoseconds: UInt64 {
        UInt64(components.seconds) * 1_000_000_000 + UInt64(components.attoseconds / 1_000_000_000)
    }
}

/// Runs something and says how long that took, in nanoseconds.
func timed<T>(_ body: () async throws -> T) async rethrows -> (UInt64, T) {
    let began = ContinuousClock.now
    let value = try await body()
    return ((ContinuousClock.now - began).nanoseconds, value)
}

import Foundation
import Glibc

/// A process for a test.
public final class Child {
    /// The process.
    public let pid: Int32
    private let process = Process()

    /// Starts a shell script that prints one line when it is ready and then execs `sleep`; returns when it has.
    public init(_ script: String) throws {
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        pid = process.processIdentifier
        guard !pipe.fileHandleForReading.availableData.isEmpty else {
            throw CommandError(description: "the script ended without printing a line: \(script)")
        }
        // `exec` may not have happened yet.
        while let name = try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8), name != "sleep\n" {
            usleep(1000)
        }
    }

    /// Kills the process and waits for its end.
    public func end() {
        guard process.isRunning else { return }
        kill(pid, SIGKILL)
        process.waitUntilExit()
    }
}

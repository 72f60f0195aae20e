import Foundation
import Glibc

/// A process for a test, which says a line when it is where it should be.
public final class Child {
    /// The process.
    public let pid: Int32
    private let process = Process()

    /// Runs a shell script, which says a line when it is there and then becomes `sleep` by `exec`.
    public init(_ script: String) throws {
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        pid = process.processIdentifier
        guard !pipe.fileHandleForReading.availableData.isEmpty else {
            throw CommandError(description: "ended before it said anything: \(script)")
        }
        // `exec` may not have happened yet.
        while let name = try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8), name != "sleep\n" {
            usleep(1000)
        }
    }

    /// Kills it.
    public func end() {
        guard process.isRunning else { return }
        kill(pid, SIGKILL)
        process.waitUntilExit()
    }
}

import ArgumentParser
import CommandKit
import Glibc
import WorktreeEngine

/// Becomes `wtengine-lead`, which lies beside this program: so no other command loads what a Lead needs to speak to a
/// forge.
struct LeadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lead",
        abstract: "Take issues from an outbox and give each a worker. See `wtengine lead --help`.")

    @Argument(parsing: .captureForPassthrough, help: .hidden)
    var arguments: [String] = []

    func run() throws {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        // See: man 5 proc (/proc/pid/exe)
        guard readlink("/proc/self/exe", &buffer, buffer.count - 1) > 0 else { throw failure("/proc/self/exe") }
        let own = buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        let program = "\(own[..<(own.lastIndex(of: "/") ?? own.startIndex)])/wtengine-lead"
        let words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        execv(program, words)
        throw failure(program)
    }

    private func failure(_ path: String) -> Failure {
        Failure(
            .system,
            "\(path) could not be run: \(String(cString: strerror(errno))). Install it beside wtengine with scripts/install."
        )
    }
}

package import ArgumentParser
import Glibc

extension AsyncParsableCommand {
    /// Parses and runs the process's command line, and ends the process with an exit code of ours.
    ///
    /// In place of the argument parser's own `main`, which knows neither the exit codes nor `--json`.
    package static func runProcess() async -> Never {
        // With one of them closed, the registry could be opened as number 1 and be written to as the answer.
        for descriptor: CInt in 0...2 where fcntl(descriptor, F_GETFD) < 0 { _ = open("/dev/null", O_RDWR) }
        // `wtengine list | head -1` closes the pipe early. A signal could strike in the middle of other work; a write
        // that fails with EPIPE does not.
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try await asyncParseAsRoot(nil)
            try Log.start()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            Glibc.exit(Failure.report(error, from: Self.self))
        }
        Glibc.exit(0)
    }
}

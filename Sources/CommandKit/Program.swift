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
            try checkCommand(CommandLine.arguments.dropFirst().first)
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

    /// The argument parser takes a command that it does not know for a value, and complains about the options behind it.
    private static func checkCommand(_ word: String?) throws {
        let commands = configuration.subcommands.compactMap { $0.configuration.commandName }
        guard let word, !word.hasPrefix("-"), word != "help", !commands.isEmpty, !commands.contains(word) else {
            return
        }
        throw Failure.usage(
            "\(word.debugDescription) is not a command. The commands are \(commands.joined(separator: ", ")).")
    }
}

import ArgumentParser
import CommandKit
import WorktreeEngine

struct Attach: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Bind a worker process to a run.",
        discussion: """
            Records the process with its start time, so that a later process with the same number is not taken for it. \
            The workdir is not cleaned up while the process lives.

              wtengine attach local#12 2026-02-14-backend-0001 --pid $$
            """)

    @OptionGroup var target: RunArguments

    @Option(help: ArgumentHelp("The worker's process id.", valueName: "pid"))
    var pid: Int32

    @OptionGroup var global: GlobalOptions

    func validate() throws {
        if pid <= 0 { throw ValidationError("--pid is \(pid): expected the number of a running process, 1 or more.") }
    }

    func run() async throws {
        let run = try await global.openEngine().attach(target.key, process: pid)
        try global.answer(json: run.json, text: run.line)
    }
}

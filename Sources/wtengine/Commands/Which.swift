import ArgumentParser
import CommandKit
import WorktreeEngine

struct Which: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "which",
        abstract: "Say which run a path belongs to.",
        discussion: """
            Takes any path inside a workdir and prints issue and run id, as the other commands take them. Fails with \
            exit code 1 when the path lies in no workdir.

              wtengine which .
              wtengine show $(wtengine which src/main.c)
            """)

    @Argument(help: "A file or directory.")
    var path: String = "."

    @OptionGroup var global: GlobalOptions

    func validate() throws {
        if path.isEmpty {
            throw ValidationError("the path is empty: give a file or directory, or nothing for the current one.")
        }
    }

    func run() async throws {
        let path = try absolutePath(path)
        guard let engine = try await global.openToLook() else {
            throw try global.noRegistry("\(path) lies in no known workdir")
        }
        guard let run = try await engine.run(containing: path) else {
            throw Failure(.unknownRun, "\(path) lies in no workdir. `wtengine list` shows where the workdirs are.")
        }
        try global.answer(json: run.json, text: run.key.description)
    }
}

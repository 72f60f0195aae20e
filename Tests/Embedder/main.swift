// embedder STATE REPOSITORY ISSUE
//
// What a scheduler does with the library, as a process that can be killed: spawns a run, and waits until the pools have
// been refilled in the background. Prints the path of the workdir.
import Foundation
import WorktreeEngine

let arguments = CommandLine.arguments
guard arguments.count == 4 else { fatalError("usage: embedder STATE REPOSITORY ISSUE") }
var configuration = Configuration(state: arguments[1])
configuration.diskReserve = 0
do {
    let engine = try await Engine.open(configuration)
    let workdir = try await engine.spawn(
        SpawnRequest(issue: arguments[3], run: "2026-02-14-backend-0001", repository: arguments[2]))
    print(workdir.path)
    await engine.finishRefills()
    await engine.close()
} catch {
    FileHandle.standardError.write(Data("embedder: \(error)\n".utf8))
    exit(1)
}

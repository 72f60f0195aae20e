import ArgumentParser
import Foundation
import WorktreeEngine

/// One thing over and over, in one process, for a profiler to look at.
struct Repeating: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "repeat", abstract: "Spawn and clean up again and again, to be looked at with a profiler.",
        discussion: """
            Prints the medians of the spawn, the plan and the cleanup, and of the floor when that is asked for.

              perf record --call-graph dwarf -- wtbench repeat --dir /dev/shm --repo ~/src/app --rounds 50
            """)

    @Option(help: ArgumentHelp("Where to work.", valueName: "dir"))
    var dir = FileManager.default.temporaryDirectory.path

    @Option(help: ArgumentHelp("The repository; its HEAD.", valueName: "path"))
    var repo: String

    @Option(help: ArgumentHelp("How often.", valueName: "n"))
    var rounds = 20

    @Option(help: ArgumentHelp("How many at once.", valueName: "n"))
    var inFlight = 1

    @Flag(help: "Write the floor between the spawns.")
    var floor = false

    @Flag(help: "Keep no contents in memory, so that each spawn reads the repository.")
    var cold = false

    func run() async throws {
        guard rounds > 0, inFlight > 0 else { throw ValidationError("--rounds and --in-flight are above 0.") }
        try await measure()
    }

    @MainActor
    private func measure() async throws {
        let workspace = try Workspace(in: dir)
        let signals = workspace.removeOnSignals()
        defer { signals.forEach { $0.cancel() } }
        do {
            try Bench.isolate(workspace)
            let subject = try await Subject(cloning: repo, name: "repeated", into: "\(workspace.path)/repository")
            let stage = try await Stage(subject, workspace, .init(wtengine: "", wtbench: "", peakmemory: ""), .short)
            try await rounds(stage, cold ? stage.coldEngine : stage.engine)
            try await stage.end()
            for series in stage.result.series {
                let median = Double(Statistics.median(series.samples)) / 1e6
                print("\(series.measure), \(series.contender): \((median * 100).rounded() / 100) ms")
            }
            try await workspace.remove()
        } catch {
            try? await workspace.remove()
            throw error
        }
    }

    @MainActor
    private func rounds(_ stage: Stage, _ engine: Engine) async throws {
        let tree = floor ? try Floor.make(stage.subject.entries) : nil
        let start = ContinuousClock.now
        if inFlight > 1 {
            let requests = (0..<rounds).map { _ in stage.request(.checkout) }
            try await keepInFlight(inFlight, of: rounds) { index in
                let workdir = try await engine.spawn(requests[index])
                _ = try await timedCleanup(engine, ifClean: workdir.run)
            }
            try await stage.settle()
            print("each: \((ContinuousClock.now - start) / rounds)")
            return
        }
        for round in 0..<rounds {
            let (spawn, workdir) = try await timedSpawn(engine, stage.request(.checkout))
            stage.record(Measure.spawn, Contender.checkout, spawn)
            stage.record(try await timedCleanup(engine, workdir.run), Contender.checkout)
            try await stage.settle()
            let (_, other) = try await timedSpawn(engine, stage.request(.checkout))
            stage.record(Measure.ifClean, Contender.checkout, try await timedCleanup(engine, ifClean: other.run).0)
            try await stage.settle()
            guard tree != nil else { continue }
            let path = "\(stage.place)/floor-\(round)"
            guard mkdir(path, 0o700) == 0 else { throw Failure(errno: "mkdir", path) }
            stage.record(Measure.spawn, Contender.floor, try tree!.write(path, threads: stage.threads))
            stage.record(Measure.lstat, Contender.floor, try tree!.stat(path, threads: stage.threads))
            _ = try tree!.remove(path, threads: stage.threads)
            guard rmdir(path) == 0 else { throw Failure(errno: "rmdir", path) }
        }
    }
}

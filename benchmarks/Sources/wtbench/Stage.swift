import Foundation
import Logging
import Synchronization
import WorktreeEngine

/// How much is measured.
struct Effort: Sendable {
    /// Files that one contender writes in the rounds of one measurement; more files, fewer rounds.
    var fileBudget: Int
    /// Upper bound of the rounds.
    var mostRounds: Int
    /// Claims from the pool at least, however large the repository is: a p99 needs many.
    var fewestClaims: Int
    /// How many spawns are a burst.
    var burst: Int
    /// A burst or a sustained load that would write more files than this is left out, or made smaller.
    var fileLimit: Int
    var inFlight: [Int]

    static let short = Effort(
        fileBudget: 30_000, mostRounds: 15, fewestClaims: 12, burst: 50, fileLimit: 250_000, inFlight: [1, 2, 4, 8, 16])
    static let full = Effort(
        fileBudget: 280_000, mostRounds: 60, fewestClaims: 100, burst: 50, fileLimit: 3_000_000,
        inFlight: [1, 2, 4, 8, 16])

    func rounds(_ files: Int) -> Int { min(mostRounds, max(3, fileBudget / files)) }
}

/// What a measurement works with: one repository, an engine that is open, and places to put things.
@MainActor
final class Stage {
    let subject: Subject
    let engine: Engine
    /// An engine that keeps no contents in memory: each spawn reads the repository.
    let coldEngine: Engine
    /// The engine of the command line's own state directory, to clean up after it.
    let commandLineEngine: Engine
    let workspace: Workspace
    /// Where workdirs of the contenders go.
    let place: String
    let tools: Tools
    let effort: Effort
    let threads = min(Machine.cores, 8)
    private(set) var result: SubjectResult
    private var count = 0

    /// Programs that are measured.
    struct Tools: Sendable {
        var wtengine: String
        var wtbench: String
        var peakmemory: String
    }

    init(_ subject: Subject, _ workspace: Workspace, _ tools: Tools, _ effort: Effort) async throws {
        self.subject = subject
        self.workspace = workspace
        self.tools = tools
        self.effort = effort
        let home = try workspace.directory("subject-\(subject.name)")
        place = home
        for name in ["state", "root", "cold-state", "cold-root", "cli-state"] {
            _ = try workspace.directory("subject-\(subject.name)/\(name)")
        }
        var logger = Logger(label: "wtengine")
        logger.logLevel = .warning
        engine = try await Engine.open(Configuration(state: "\(home)/state", roots: ["\(home)/root"]), logger: logger)
        var cold = Configuration(state: "\(home)/cold-state", roots: ["\(home)/cold-root"])
        cold.checkoutMemory = 0
        coldEngine = try await Engine.open(cold, logger: logger)
        commandLineEngine = try await Engine.open(Configuration(state: "\(home)/cli-state"), logger: logger)
        result = SubjectResult(
            name: subject.name, files: subject.files, directories: subject.directories, bytes: subject.bytes)
    }

    /// An engine with a pool, state and root of its own.
    func poolEngine(refills: Bool) async throws -> Engine {
        let home = "subject-\(subject.name)/\(fresh("pool"))"
        _ = try workspace.directory(home)
        var configuration = Configuration(
            state: try workspace.directory("\(home)/state"), roots: [try workspace.directory("\(home)/root")])
        configuration.refillsPools = refills
        return try await Engine.open(configuration, logger: engine.logger)
    }

    var git: Git { Git(repository: subject.path) }

    /// A name that was not used before.
    func fresh(_ prefix: String) -> String {
        count += 1
        return "\(prefix)-\(count)"
    }

    /// A request for a run that was not used before. HEAD is detached, as in the worktrees that git makes here.
    func request(_ materializer: Materializer?) -> SpawnRequest {
        count += 1
        return SpawnRequest(
            issue: "local#\(count)", run: "2026-01-01-bench-0001", repository: subject.path, branch: .detached,
            materializer: materializer)
    }

    func record(_ time: CleanupTime, _ contender: String) {
        record(Measure.plan, contender, time.plan)
        record(Measure.cleanup, contender, time.cleanup)
        record(Measure.planned, contender, time.both)
    }

    func record(_ measure: String, _ contender: String, _ value: UInt64, _ unit: Series.Unit = .nanoseconds) {
        if let index = result.series.firstIndex(where: { $0.measure == measure && $0.contender == contender }) {
            result.series[index].samples.append(value)
        } else {
            result.series.append(Series(measure: measure, contender: contender, unit: unit, samples: [value]))
        }
    }

    func note(_ text: String) {
        result.notes.append(text)
        Console.tell("  note: \(text)")
    }

    /// Waits until nothing of the last sample is going on any more: trash, and dirty pages.
    func settle() async throws {
        guard await engine.finishTrash() == 0, await coldEngine.finishTrash() == 0,
            await commandLineEngine.finishTrash() == 0
        else {
            throw Failure("the engine could not unlink its trash below \(place); its log says why.")
        }
        try workspace.settle()
    }

    /// Removes the repository and everything made of it.
    func end() async throws {
        await engine.close()
        await coldEngine.close()
        try await settle()
        // The templates of a repository that is gone go with the next sweep.
        try await Command.require(["rm", "-rf", "--", subject.path])
        _ = try await engine.sweep()
        try await settle()
        try await Command.require(["rm", "-rf", "--", place])
    }

    /// The worker count that serves git better here, as the spawns showed.
    var bestWorkers: Int {
        guard let one = result.samples(Measure.spawn, Contender.gitOne),
            let many = result.samples(Measure.spawn, Contender.gitMany)
        else { return 1 }
        return Statistics.median(many) < Statistics.median(one) ? Machine.cores : 1
    }

    /// How many more workdirs have room, on a filesystem that others use as well.
    func room(for wanted: Int) throws -> Int {
        let free = try workspace.free()
        let each = subject.footprint + UInt64(subject.directories) * 4096
        let inodes = UInt64(subject.entries.count + 16)
        return min(wanted, Int(min(free.bytes / 10 * 6 / each, free.files / 10 * 6 / inodes, 1_000_000)))
    }
}

/// One spawn on the cooperative pool, where a server's own code would run, and not on the main actor.
@concurrent
func timedSpawn(_ engine: Engine, _ request: SpawnRequest) async throws -> (UInt64, Workdir) {
    try await timed { try await engine.spawn(request) }
}

/// How long a caller waits for a plan, and for its cleanup; the unlinking goes on afterwards.
struct CleanupTime {
    let plan: UInt64
    let cleanup: UInt64

    var both: UInt64 { plan + cleanup }
}

@concurrent
func timedCleanup(_ engine: Engine, _ run: RunKey) async throws -> CleanupTime {
    let (planning, plan) = try await timed { try await engine.planCleanup(run) }
    let (removing, _) = try await timed { try await engine.cleanup(plan) }
    return CleanupTime(plan: planning, cleanup: removing)
}

@concurrent
func timedCleanup(_ engine: Engine, ifClean run: RunKey) async throws -> (UInt64, CleanupReport) {
    try await timed { try await engine.cleanup(ifClean: run) }
}

/// What a person watches.
enum Console {
    static func tell(_ text: String) { FileHandle.standardError.write(Data("\(text)\n".utf8)) }
}

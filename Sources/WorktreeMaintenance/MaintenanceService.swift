public import Logging
public import ServiceLifecycle
public import WorktreeEngine

/// Keeps the workdirs of an engine in order for as long as the process runs: recovers what a crash left, then sweeps
/// again and again, which applies the policies and refills the pools.
///
/// ```swift
/// let maintenance = MaintenanceService(engine: engine) { run in
///     await gate.needsHuman(run.key, run.reason)
/// }
/// let group = ServiceGroup(services: [lead, maintenance], gracefulShutdownSignals: [.sigterm], logger: logger)
/// try await group.run()
/// ```
///
/// A failure is logged, and the next round tries again. What stays as it is from one round to the next is said once.
///
/// At a graceful shutdown the step under way is finished, a recovery or a sweep, and none is begun. A cancellation,
/// which is what a service group makes of a shutdown that takes too long, ends a sweep at the next run.
public struct MaintenanceService: Service {
    private let engine: Engine
    private let interval: Duration
    private let logger: Logger
    private let needsHuman: @Sendable (Run) async -> Void

    /// A service for one engine, which stays the caller's to close.
    /// - Parameters:
    ///   - interval: from the end of a sweep to the beginning of the next, give or take a tenth: processes of one state
    ///     directory that were started together do not stay together.
    ///   - logger: nil for the engine's.
    ///   - needsHuman: called once for each run that is quarantined, with ``Run/reason``; again when a run comes back,
    ///     or for another reason. Those that are quarantined at the start count as new. The next step waits for it.
    public init(
        engine: Engine, interval: Duration = .seconds(300), logger: Logger? = nil,
        needsHuman: @escaping @Sendable (Run) async -> Void = { _ in }
    ) {
        self.engine = engine
        self.interval = interval
        self.logger = logger ?? engine.logger
        self.needsHuman = needsHuman
    }

    /// Runs until a graceful shutdown or a cancellation.
    public func run() async {
        var notices = Notices()
        var isRecovered = false
        while true {
            notices.beginLook()
            if !isRecovered, !isEnding { isRecovered = await recover(&notices) }
            if !isEnding { await sweep(&notices) }
            if isEnding { return }
            await pause()
        }
    }

    private var isEnding: Bool { Task.isCancelled || Task.isShuttingDownGracefully }

    /// It throws when it is cut short, which the loop asks for by itself.
    private func pause() async {
        let time = interval * Double.random(in: 0.9...1.1)
        try? await cancelWhenGracefulShutdown { try await Task.sleep(for: time) }
    }

    // MARK: Steps

    /// - Returns: whether nothing is left to recover.
    private func recover(_ notices: inout Notices) async -> Bool {
        do {
            let recovered = try await engine.recover()
            for run in recovered where notices.isNew("recover \(run.run) \(run.action)") {
                logger.log(
                    level: run.action == "failed" ? .error : .notice, "recovered a run",
                    metadata: ["run": "\(run.run)", "action": "\(run.action)", "detail": "\(run.detail)"])
            }
            return !recovered.contains { $0.action == "failed" }
        } catch {
            tell(error, of: "a recovery", &notices)
            return false
        }
    }

    private func sweep(_ notices: inout Notices) async {
        logger.debug("sweeping")
        do {
            tell(try await engine.sweep(), &notices)
            for run in try await engine.runs(state: .quarantined) {
                let reason = run.reason ?? "no reason is recorded"
                guard notices.isNew("quarantined \(run.key) \(reason)") else { continue }
                logger.error(
                    "a run needs a person",
                    metadata: ["run": "\(run.key)", "path": "\(run.path)", "reason": "\(reason)"])
                await needsHuman(run)
            }
            notices.endLook()
        } catch {
            tell(error, of: "a sweep", &notices)
        }
    }

    // MARK: The log

    private func tell(_ error: EngineError, of step: String, _ notices: inout Notices) {
        if error.code == .cancelled { return }
        guard notices.isNew("\(step) \(error)") else { return }
        logger.error(
            "\(step) failed and is tried again",
            metadata: ["error": "\(error)", "disposition": "\(error.disposition.rawValue)"])
    }

    private func tell(_ report: SweepReport, _ notices: inout Notices) {
        for run in report.cleaned { logger.info("cleaned up", metadata: ["run": "\(run)"]) }
        for run in report.pruned { logger.info("pruned", metadata: ["run": "\(run)"]) }
        if report.slotsFilled > 0 { logger.info("filled slots", metadata: ["count": "\(report.slotsFilled)"]) }
        for (run, reason) in report.skipped where notices.isNew("skipped \(run) \(reason)") {
            logger.notice("a cleanup is put off", metadata: ["run": "\(run)", "reason": "\(reason)"])
        }
        for (path, reason) in report.trashLeft where notices.isNew("trash \(path) \(reason)") {
            logger.warning("trash is left", metadata: ["path": "\(path)", "reason": "\(reason)"])
        }
        for (repository, reason) in report.poolsLeft where notices.isNew("pool \(repository) \(reason)") {
            logger.warning("a pool is not refilled", metadata: ["repo": "\(repository)", "reason": "\(reason)"])
        }
    }
}

/// Remembers what was said, so that a state of things is told when it begins and not at every look.
struct Notices {
    private var said: Set<String> = []
    private var current: Set<String> = []

    mutating func beginLook() { current = [] }

    mutating func isNew(_ text: String) -> Bool {
        current.insert(text)
        return said.insert(text).inserted
    }

    /// To be called after a whole look. What was not found by it has ended, and is new when it comes back.
    mutating func endLook() { said = current }
}

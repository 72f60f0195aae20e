extension Engine {
    func settle(_ run: Run) async throws -> Run { run }
    /// Binds a worker process to the run.
    public func attach(_ run: RunKey, process pid: Int32) async throws(EngineError) -> Run { fatalError() }
    /// Releases the worker with an outcome. cleanup: set when the policy of the outcome is `immediate` and the cleanup was done
    public func detach(_ run: RunKey, outcome: Outcome) async throws(EngineError) -> Run { fatalError() }
    /// Plans.
    public func planCleanup(_ run: RunKey) async throws(EngineError) -> CleanupPlan { fatalError() }
    /// Throws EngineError .workAtRisk (when risks and !discard), .inUse, .planChanged, .keepLocked
    public func cleanup(_ plan: CleanupPlan, discard: Bool = false) async throws(EngineError) -> CleanupReport { fatalError() }
    /// Waits until trash of this engine's cleanups is unlinked. Returns number of directories that could not be.
    public func finishTrash() async throws(EngineError) -> Int { fatalError() }
    /// Empty when clean and available.
    public func verify(_ run: RunKey) async throws(EngineError) -> [String] { fatalError() }
    public func recover() async throws(EngineError) -> [Recovered] { fatalError() }
    /// Sets a damaged registry aside and rebuilds. repositories: further repositories whose admin entries are scanned
    public static func rebuild(_ configuration: Configuration, repositories: [String] = []) async throws(EngineError) -> (setAside: String?, runs: [RunKey]) { fatalError() }
    public func sweep() async throws(EngineError) -> SweepReport { fatalError() }
    /// only the prune part of sweep
    public func prune() async throws(EngineError) -> SweepReport { fatalError() }
    public func lock(_ run: RunKey, reason: String) async throws(EngineError) -> Run { fatalError() }
    public func unlock(_ run: RunKey) async throws(EngineError) -> Run { fatalError() }
    public func doctor(repository: String?) async throws(EngineError) -> [Finding] { fatalError() }
}

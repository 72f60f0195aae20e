import Git
import Registry
import SystemPackage

/// What has to be known of a workdir before anybody looks at its files.
extension Engine {
    /// The path of the workdir of a run that may be removed; nil when it is gone.
    func presentWorkdir(of run: Run) async throws -> String? {
        switch run.state {
        case .removed: throw EngineError(.state, .retry, "the workdir of run \(run.key) is removed already.")
        case .creating, .cleaning:
            throw EngineError(
                .inProgress, .blocked,
                "run \(run.key) is \(run.state.rawValue). Wait for it; if its process died, run `wtengine recover`.")
        default: break
        }
        let root = try await self.root(of: run)
        guard let relative = root.relative(run.path) else {
            throw EngineError(.identity, .needsHuman, "\(run.path) is not below the root \(root.path).")
        }
        return try await blocking {
            do {
                let workdir = try root.open().openBeneath(relative)
                if let mismatch = AdminEntry.mismatch(run, workdir: workdir) {
                    throw EngineError.mismatch(run, mismatch)
                }
                return run.path
            } catch let error as SystemError where error.errno == .noSuchFileOrDirectory {
                return nil
            } catch let error as SystemError
                where error.errno == .notDirectory || error.errno == .tooManySymbolicLinkLevels
            {
                throw EngineError.mismatch(run, "\(run.path) is not a directory")
            }
        }
    }

    /// Who is inside a workdir, by whatever path.
    /// - Throws: ``EngineError/Code/inUse`` when a filesystem is mounted there; ``EngineError/Code/identity`` when it is
    ///   not gone, but elsewhere.
    func look(into workdir: String?, of run: Run) async throws -> [ProcessInside] {
        if workdir == nil, run.materializer != .clone, AdminEntry.exists(run),
            let mismatch = AdminEntry.entryMismatch(run)
        {
            // `git worktree move` or `repair` gave the entry to a directory elsewhere: the run is not gone.
            throw EngineError.mismatch(run, mismatch)
        }
        if let workdir, let mount = try await blocking({ try ProcessTable.mount(below: workdir) }) {
            throw EngineError(
                .inUse, .blocked,
                "a filesystem is mounted at \(mount), inside the workdir of run \(run.key). Unmount it, then try "
                    + "again.")
        }
        return try await insideProcesses(run, workdir: workdir)
    }

    private func insideProcesses(_ run: Run, workdir: String?) async throws -> [ProcessInside] {
        var found: [ProcessInside] = []
        if run.state == .attached || run.removal?.previousState == RunState.attached.rawValue, let worker = run.worker,
            ProcessTable.isAlive(worker)
        {
            let name = worker.host == ProcessTable.host ? "worker" : "worker on \(worker.host)"
            found.append(ProcessInside(pid: worker.pid, name: name, holds: "worker"))
        }
        guard let workdir else { return found }
        // Only now that it is to go: what is mapped is written later, but whoever is at work has more than that open.
        let isRemoval = run.state == .cleaning
        found += try await blocking { try ProcessTable.inside([workdir], mappings: isRemoval) }
        return found
    }
}

extension EngineError {
    static func inUse(_ run: Run, _ process: ProcessInside, more: Int) -> EngineError {
        EngineError(
            .inUse, .blocked,
            "process \(process.pid) (\(process.name)) \(process.holds == "worker" ? "is the worker of" : "has its \(process.holds) in") "
                + "\(run.path)\(more > 0 ? ", and \(more) more" : ""). End it, then try again.")
    }
}

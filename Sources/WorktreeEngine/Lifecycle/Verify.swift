import Git
import Glibc
import Registry
import SystemPackage

extension Engine {
    /// Whether a run's workdir is available, linked both ways, and as clean as at its creation.
    /// - Returns: what is wrong, a line each; empty when nothing is.
    /// - Throws: ``EngineError/Code/unknownRun``; ``EngineError/Code/state`` for a run without a workdir.
    public func verify(_ key: RunKey) async throws(EngineError) -> [String] {
        let run = try await self.run(key)
        return try await Self.catching("verify \(key)") {
            guard ![.creating, .cleaning, .removed].contains(run.state) else {
                throw EngineError(.state, .retry, "run \(key) is \(run.state.rawValue) and has no workdir to verify.")
            }
            let root = try await self.root(of: run)
            guard let relative = root.relative(run.path) else {
                return ["\(run.path) is not below the root \(root.path)"]
            }
            let broken = try await blocking { () -> String? in
                do {
                    let workdir = try root.open().openBeneath(relative)
                    return AdminEntry.mismatch(run, workdir: workdir)
                } catch let error as SystemError { return "\(run.path) cannot be opened: \(error.errno)" }
            }
            if let broken { return [broken] }
            if self.isOrphan(run) {
                return ["the repository \(run.repo) is gone; look at \(run.path), then: `wtengine cleanup \(key)`"]
            }
            var problems: [String] = []
            if run.materializer != .clone {
                let entry = try Directory(AdminEntry.path(run))
                if try !entry.contains("locked") {
                    problems.append("\(AdminEntry.path(run)) is not locked against git's prune")
                }
            }
            let plan = try await self.plan(run, workdir: run.path)
            problems += plan.risks.map { "\($0.kind.rawValue) \($0.path): \($0.detail)" }
            let isClone = run.materializer == .clone
            let place = WorkingPlace(
                gitDir: AdminEntry.gitDir(run), commonDir: isClone ? AdminEntry.gitDir(run) : run.commonDir,
                workdir: run.path, isForeign: isClone)
            let state: WorkingState
            // The plan has said why.
            do { state = try await self.workingState(place) } catch is CannotLook { return problems }
            if state.headCommit == nil { problems.append("HEAD names no commit") }
            if run.branch != state.headBranch {
                problems.append("HEAD is \(state.headBranch ?? "detached"), made as \(run.branch ?? "detached")")
            }
            return problems
        }
    }
}

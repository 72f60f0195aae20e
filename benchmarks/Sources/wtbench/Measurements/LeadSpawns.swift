import GRDB
import LeadKit

/// What a Lead adds to a spawn from the pool: the number of the run, the claim in the outbox, and the work order.
///
/// The steps are those of "A Lead in fifty lines" in docs/embedding.md, up to the moment when a worker could be started.
/// The outbox is a SQLite file on the same filesystem; that of a forge costs what its answers take.
@MainActor
struct LeadSpawns {
    let stage: Stage

    /// An issue that waits to be taken, as often as one is asked for.
    private struct Project {
        let engine: Engine
        let profile: Profile
        let outbox: any Outbox
        let database: DatabaseQueue
        let packs: String

        func issue(_ number: Int) async throws -> IssueRef {
            try await database.write { db in
                try db.execute(
                    sql: """
                        INSERT INTO outbox_threads (thread_id, title, assignee) VALUES (:number, 'bench', 'lead-backend');
                        INSERT INTO outbox_thread_labels (thread_id, label) VALUES (:number, 'state:todo'), (:number, 'bench');
                        """, arguments: ["number": number])
            }
            return try IssueRef("local#\(number)")
        }
    }

    func run() async throws {
        let size = try min(10, stage.room(for: 20) / 2) / 2 * 2
        guard size > 0 else { return stage.note("no spawns by a Lead: there is no room for their workdirs.") }
        let project = try await project()
        let engine = project.engine
        var number = 0
        // The first batch warms caches.
        for batch in 0...max(2, stage.effort.fewestClaims / size) {
            _ = try await engine.fillPool(repository: stage.subject.path, size: size)
            try await stage.settle()
            var workdirs: [Workdir] = []
            for index in 0..<size {
                number += 1
                let issue = try await project.issue(number)
                // In turn, and each first in every other pair.
                let isLead = index % 2 == index / 2 % 2
                let (time, workdir) = try await isLead ? leadSpawn(project, issue) : engineSpawn(project, issue)
                guard workdir.materializer == .pool else {
                    throw Failure("\(workdir.path) was served by \(workdir.materializer) instead of the pool.")
                }
                if batch > 0 { stage.record(Measure.leadSpawn, isLead ? Contender.lead : Contender.pool, time) }
                workdirs.append(workdir)
            }
            if batch == 0 {
                for workdir in workdirs { try await Git.verify(workdir.path, stage.subject.commit) }
            }
            for workdir in workdirs { _ = try await timedCleanup(engine, workdir.run) }
            guard await engine.finishTrash() == 0 else { throw Failure("the Lead's trash could not be unlinked.") }
        }
        await project.outbox.close()
        await engine.close()
        _ = try await engine.drainPool(repository: stage.subject.path)
        guard await engine.finishTrash() == 0 else { throw Failure("the pool's trash could not be unlinked.") }
        try await stage.settle()
    }

    /// A profile as a person would write it, and an outbox with nothing in it.
    private func project() async throws -> Project {
        let home = try stage.workspace.directory("subject-\(stage.subject.name)/\(stage.fresh("lead"))")
        let outbox = "\(home)/outbox.db"
        try SQLiteOutbox.create(outbox)
        try Files.write(
            """
            [outbox]
            backend = "sqlite"
            path = "outbox.db"
            [repos]
            app = "\(stage.subject.path)"
            [role_repo]
            backend = "app"
            [roles]
            enabled = ["backend"]
            [groups.backend]
            role = "backend"
            listen_labels = ["bench"]
            """, "\(home)/workflow.toml")
        var profile = try Profile.load("\(home)/workflow.toml", state: "\(home)/state")
        profile.workdir.refillsPools = false
        let engine = try await Engine.open(profile.workdir, logger: stage.engine.logger)
        return Project(
            engine: engine, profile: profile, outbox: try profile.openOutbox(environment: [:]),
            database: try DatabaseQueue(path: outbox), packs: "\(home)/packs")
    }

    @concurrent
    private func leadSpawn(_ project: Project, _ issue: IssueRef) async throws -> (UInt64, Workdir) {
        try await timed {
            let group = project.profile.groups[0]
            let run = try await project.engine.allocate(issue, role: group.role)
            let trigger = "workrun:\(run)/claim"
            let claim = IssueUpdate(
                issue: issue, trigger: trigger, requires: .todo, state: .doing,
                body: "IssueRef: \(issue)\nRunId: \(run)\nAction: claim\nTrigger: \(trigger)\n")
            guard try await project.outbox.apply(claim) == .applied else { throw Failure("\(issue) was not claimed.") }
            let workdir = try await project.engine.spawn(
                SpawnRequest(
                    issue: issue.description, run: run.description,
                    repository: project.profile.repository(of: group.role), materializer: .pool))
            let order = WorkOrder(issue: issue, run: run, role: group.role, repoDir: workdir.path)
            _ = try ContextPack.write(order: order, spec: "bench\n", in: project.packs)
            return workdir
        }
    }

    @concurrent
    private func engineSpawn(_ project: Project, _ issue: IssueRef) async throws -> (UInt64, Workdir) {
        try await timed {
            try await project.engine.spawn(
                SpawnRequest(
                    issue: issue.description, run: "2026-01-01-bench-0001",
                    repository: project.profile.repository(of: project.profile.groups[0].role), materializer: .pool))
        }
    }
}

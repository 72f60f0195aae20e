import Foundation
import LeadKit
import WorktreeEngine

/// Takes what waits, one issue after the other, and gives each to a command.
func lead(_ path: String, state: String, command: String) async throws {
    let profile = try Profile.load(path, state: state)
    let engine = try await Engine.open(profile.workdir)
    let outbox = try profile.openOutbox(environment: ProcessInfo.processInfo.environment)
    let gate = TaskGate(engine: engine, outbox: outbox, labels: profile.labels)
    _ = try await engine.recover()  // what a crash has left half-made
    for group in profile.groups {
        let waiting = group.listenLabels.union([profile.labels.name(of: .todo)])
        for issue in try await outbox.issues(labelled: waiting, assignedTo: "lead-\(group.role)") {
            // A number that is never given twice, then the claim in its name.
            let run = try await engine.allocate(issue.ref, role: group.role)
            let key = RunKey(issue: issue.ref, run: run)
            let claim = IssueUpdate(
                issue: issue.ref, trigger: "workrun:\(run)/claim", requires: .todo, state: .doing,
                body: "IssueRef: \(issue.ref)\nRunId: \(run)\nAction: claim\nTrigger: workrun:\(run)/claim\n")
            guard try await outbox.apply(claim) == .applied else { continue }
            let repository = profile.repository(of: group.role)
            do {
                // Create. A second run for the issue says `switching: true`, and the first one's reports are refused.
                let workdir = try await engine.spawn(
                    SpawnRequest(issue: issue.ref.description, run: run.description, repository: repository))
                let order = WorkOrder(issue: issue.ref, run: run, role: group.role, repoDir: workdir.path)
                let pack = try ContextPack.write(order: order, spec: issue.body, in: "\(state)/packs")
                // Attach: the worker waits until the registry knows it.
                let worker = try await Worker.start(
                    command, in: workdir.path,
                    environment: Worker.environment(for: key, workdir: workdir.path, pack: pack, state: state),
                    output: "\(pack.directory)/worker.log")
                try await engine.attach(key, process: worker.process.pid)
                worker.begin()
                _ = await worker.end(within: group.timeout, grace: .seconds(30))
                // Detach with what the worker left. The outcome's policy decides when the workdir goes.
                let result = try? pack.result()
                let ok = result?.status == .ok
                try await engine.detach(key, outcome: ok ? .ok : .fail)
                let trigger = "workrun:\(run)/finish"
                let finish = IssueUpdate(
                    issue: issue.ref, trigger: trigger, requires: .doing, state: ok ? .review : .blocked,
                    body: "IssueRef: \(issue.ref)\nRunId: \(run)\nAction: finish\nTrigger: \(trigger)\n")
                try await gate.keep(finish, of: key)
            } catch {
                // A run that was made ends, so that another may begin; when none was made, there is nothing to end.
                _ = try? await engine.detach(key, outcome: .fail)
                // The task becomes blocked, or is gated for a person, with the way out in the event.
                try await gate.close(key, after: error, during: "spawn", repository: repository)
            }
        }
    }
    let delivery = try await gate.deliver()  // what is out of reach now is told by the next call
    _ = try await engine.sweep()  // applies the policies
    if let problem = delivery.problem { print("kept for later: \(delivery.pending) (\(problem))") }
    await engine.close()
}

let arguments = CommandLine.arguments
guard arguments.count == 4 else { fatalError("usage: minimal-lead WORKFLOW STATE COMMAND") }
try await lead(arguments[1], state: arguments[2], command: arguments[3])

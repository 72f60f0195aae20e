import Foundation
import LeadKit
import TestSupport
import Testing
import WorktreeEngine

/// Scenario D: creation or cleanup fails. The task is gated by itself, and the way out in the message works when it is
/// followed to the letter.
@Suite struct FailureTests {
    static let worker = "echo done > shared.txt; git commit --quiet -am done; result ok"

    @Test("D: a limit blocks the task, and the recovery path makes room", arguments: Backend.allCases)
    func limit(backend: Backend) async throws {
        let project = try await Project(backend, limits: "disk_reserve = 0\nper_repository = 1")
        let first = try await project.open("First")
        try await project.lead(Self.worker).run(once: true)
        let second = try await project.open("Second")
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.labels(first) == ["state:review"])
        #expect(try await project.labels(second) == ["state:blocked"])
        let event = try #require(try await project.events(second).last)
        try expectGate(event, of: second, status: "blocked", code: "WT-LIMIT")
        // Nothing is left of the run that was not made, and the Lead does not try again by itself.
        #expect(try await project.engine.runs(issue: second).isEmpty)
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.events(second).count == 2)

        try await follow(event, project)
        try await project.relabel(second, off: ["state:blocked"], on: ["state:todo"])
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.labels(second) == ["state:review"])
        // A number is given once, also when its run was never made.
        #expect(try await project.engine.runs(issue: second).map { $0.key.run.description.suffix(4) } == ["0002"])
    }

    @Test("D: a disk that is full blocks the task", arguments: Backend.allCases)
    func disk(backend: Backend) async throws {
        let project = try await Project(backend, limits: "disk_reserve = \"1000000TiB\"")
        let issue = try await project.open()
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:blocked"])
        let event = try #require(try await project.events(issue).last)
        try expectGate(event, of: issue, status: "blocked", code: "WT-DISK")
        try await follow(event, project)
        // The path frees space; here the reserve shrinks, as if it had.
        var configuration = project.profile.workdir
        configuration.diskReserve = 0
        let engine = try await Engine.open(configuration, logger: Project.logger)
        try await project.relabel(issue, off: ["state:blocked"], on: ["state:todo"])
        try await project.lead(Self.worker, engine: engine).run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
    }

    @Test("D: a corrupt repository gates the task for a person, and the path mends it", arguments: Backend.allCases)
    func corruptRepository(backend: Backend) async throws {
        let project = try await Project(backend)
        // Objects in files of their own, and one of them lost.
        let objects = "\(project.repository)/.git/objects"
        try await shell(
            """
            for pack in \(objects)/pack/*.pack; do [ -e "$pack" ] || continue
                mv "$pack" lost.pack; rm -f \(objects)/pack/*; git unpack-objects -q < lost.pack; rm lost.pack; done
            blob=$(git rev-parse HEAD:shared.txt)
            rm -f \(objects)/$(echo $blob | cut -c1-2)/$(echo $blob | cut -c3-)
            """, in: project.repository)
        let issue = try await project.open()
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:blocked", "needs-human"])
        let event = try #require(try await project.events(issue).last)
        try expectGate(event, of: issue, status: "needs-human", code: "WT-GIT")
        // Gated: nothing happens to it, whatever its state says.
        try await project.relabel(issue, off: ["state:blocked"], on: ["state:todo"])
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.events(issue).count == 2)

        try await follow(event, project)
        try await project.relabel(issue, off: ["needs-human"], on: [])
        let engine = try await Engine.open(project.profile.workdir, logger: Project.logger)
        try await project.lead(Self.worker, engine: engine).run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
    }

    @Test(
        "D: a cleanup that fails gates the task after its work is told, and the path keeps the work",
        arguments: Backend.allCases)
    func failedCleanup(backend: Backend) async throws {
        let project = try await Project(backend, workdir: "[workdir.policies]\nok = \"immediate\"")
        let issue = try await project.open()
        try await project.lead("echo left > forgotten.txt; \(Self.worker)").run(once: true)
        let run = try #require(try await project.engine.runs().first)
        #expect(run.state == .quarantined)
        #expect(try await project.labels(issue) == ["state:review", "needs-human"])
        let events = try await project.events(issue)
        #expect(events.map { $0["Action"] } == ["claim", "finish", "cleanup"])
        let event = try #require(events.last)
        try expectGate(event, of: issue, status: "needs-human", code: nil)
        #expect(event["Reason"]?.contains("untracked") == true)
        // Told once, however often a Lead comes by.
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.events(issue).count == 3)

        try await follow(event, project)
        #expect(try await project.engine.run(run.key).state == .removed)
        let branch = try #require(run.branch)
        #expect(try await git("show", "\(branch):forgotten.txt", in: project.repository) == "left\n")
    }

    @Test("an include file that git does not ignore blocks the task", arguments: [Backend.sqlite])
    func include(backend: Backend) async throws {
        let project = try await Project(
            backend, workdir: "[workdir]\ninclude = [\".env\", \"absent\"]",
            files: [TestFile("shared.txt", "base\n"), TestFile(".gitignore", "absent\n")])
        try "SECRET=1\n".write(toFile: "\(project.repository)/.env", atomically: true, encoding: .utf8)
        let issue = try await project.open()
        try await project.lead(Self.worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:blocked"])
        #expect(try await project.events(issue).last?["Reason"]?.contains("WT-INCLUDE") == true)
        try "absent\n.env\n".write(
            toFile: "\(project.repository)/.git/info/exclude", atomically: true, encoding: .utf8)
        try await project.relabel(issue, off: ["state:blocked"], on: ["state:todo"])
        try await project.lead("[ \"$(cat .env)\" = SECRET=1 ] || exit 1; \(Self.worker)").run(once: true)
        let text = try await project.events(issue).last?.text ?? ""
        #expect(try await project.labels(issue) == ["state:review"], "\(text)")
    }

    @Test("a context pack outlives its workdir, and no command leads into what was removed")
    func packOfRemovedRun() async throws {
        let project = try await Project(.sqlite, workdir: "[workdir.policies]\nfail = \"immediate\"")
        let issue = try await project.open()
        try await project.lead("echo why; result fail").run(once: true)
        let run = try #require(try await project.engine.runs().first)
        #expect(run.state == .removed)
        let event = try #require(try await project.events(issue).last)
        #expect(event["Workdir"] == nil)
        // It had no commits of its own, and went as well.
        #expect(event["Branch"] == nil)
        #expect(!event.commands.isEmpty && !event.commands.contains { $0.contains(run.path) })
        // The sweep of the next Lead leaves it.
        try await project.lead("exit 1").run(once: true)
        let pack = ContextPack(run: run.key, in: "\(project.engine.configuration.state)/packs")
        #expect(try String(contentsOfFile: "\(pack.directory)/worker.log", encoding: .utf8) == "why\n")

        var options = Lead.Options()
        options.interval = .milliseconds(100)
        options.packRetention = .zero
        let lead = Lead(
            profile: project.profile, engine: project.engine, outbox: project.outbox, worker: "exit 1",
            options: options, logger: Project.logger)
        try await lead.run(once: true)
        #expect(!FileManager.default.fileExists(atPath: pack.directory))
    }

    // MARK: The event

    private func expectGate(_ event: Event, of issue: IssueRef, status: String, code: String?) throws {
        let run = try #require(event["RunId"])
        #expect(event["IssueRef"] == issue.description)
        #expect(event["Trigger"] == "workrun:\(run)")
        #expect(event["Status"] == status)
        for name in ["Action", "Reason", "Remedy", "Next"] { #expect(event[name]?.isEmpty == false, "\(name)") }
        if let code { #expect(event["Reason"]?.hasPrefix(code) == true, "\(event["Reason"] ?? "")") }
        #expect(!event.commands.isEmpty)
    }

    /// Does what an event says: each command as it stands, and the command that a plan names for its removal.
    private func follow(_ event: Event, _ project: Project) async throws {
        let directory = (product("wtengine") as NSString).deletingLastPathComponent
        let path = "\(directory):\(ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")"
        for command in event.commands {
            let output = try await run(
                ["sh", "-c", command], in: project.scratch.path, expecting: nil,
                environment: ["PATH": path, "HOME": project.scratch.path])
            for line in output.split(separator: "\n") where line.hasPrefix("  wtengine cleanup ") {
                try await shell(String(line), in: project.scratch.path, ["PATH": path, "HOME": project.scratch.path])
            }
        }
    }
}

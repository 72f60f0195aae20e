import Foundation
import LeadKit
import TestSupport
import Testing
import WorktreeEngine

/// What a Lead promises, each for a local SQLite project and for a project on a forge.
@Suite struct ScenarioTests {
    @Test(
        "A: four workers on one repository at once edit the same files, and none sees another",
        arguments: Backend.allCases)
    func fourAtOnce(backend: Backend) async throws {
        let project = try await Project(backend)
        var issues: [IssueRef] = []
        for number in 1...4 { issues.append(try await project.open("Task \(number)")) }
        let barrier = "\(project.scratch.path)/barrier"
        try FileManager.default.createDirectory(atPath: barrier, withIntermediateDirectories: true)
        try await project.lead(
            """
            echo "$WTENGINE_ISSUE" > shared.txt
            touch "\(barrier)/$WTENGINE_RUN-$(basename "$(dirname "$WTENGINE_WORKDIR")")"
            # All four have written before any goes on.
            for _ in $(seq 1200); do [ "$(ls "\(barrier)" | wc -l)" = 4 ] && break; sleep 0.05; done
            [ "$(ls "\(barrier)" | wc -l)" = 4 ] || exit 1
            [ "$(cat shared.txt)" = "$WTENGINE_ISSUE" ] || exit 1
            [ "$(git status --porcelain)" = ' M shared.txt' ] || exit 1
            git commit --quiet -am "$WTENGINE_ISSUE"
            git push --quiet origin HEAD || exit 1
            result ok
            """
        ).run(once: true)
        let runs = try await project.engine.runs()
        #expect(Set(runs.map(\.path)).count == 4)
        for issue in issues {
            #expect(try await project.labels(issue) == ["state:review"])
            let run = try #require(runs.first { $0.key.issue == issue })
            #expect(run.key.run.description.hasSuffix("-backend-0001"))
            #expect(run.outcome == .ok)
            #expect(try await project.engine.run(containing: "\(run.path)/shared.txt")?.key == run.key)
            // On the branch that was pushed is this one's work and nothing else.
            let branch = try #require(run.branch)
            let remote = "\(project.scratch.path)/git/org/repo.git"
            #expect(try await git("show", "\(branch):shared.txt", in: remote) == "\(issue)\n")
            #expect(try await git("rev-list", "--count", "main..\(branch)", in: remote) == "1\n")
            #expect(try await project.events(issue).map { $0["Action"] } == ["claim", "finish"])
        }
        #expect(try await git("status", "--porcelain", in: project.repository) == "")
    }

    @Test(
        "B: a worker dies or hangs and the Lead switches; the old one wakes up late and changes nothing",
        arguments: Backend.allCases, ["exec sleep 600", "kill -9 $$"])
    func lateWorker(backend: Backend, ending: String) async throws {
        let project = try await Project(backend, group: "timeout = \"2s\"")
        let issue = try await project.open()
        let place = project.scratch.path
        let wtengine = product("wtengine")
        try await project.lead(
            """
            case $WTENGINE_RUN in *-0001)
                # What escapes its group wakes up when the second worker is at work: it edits, commits, reports.
                setsid sh -c '
                    touch "\(place)/escaped"
                    for _ in $(seq 1200); do [ -e "\(place)/second" ] && break; sleep 0.05; done
                    echo late >> shared.txt; git commit --quiet -am late
                    printf "IssueRef: %s\\nRunId: %s\\nStatus: ok\\n\\nLate.\\n" "$WTENGINE_ISSUE" "$WTENGINE_RUN" \
                        > "$WTENGINE_CONTEXT_PACK/work_result.txt"
                    "\(wtengine)" detach "$WTENGINE_ISSUE" "$WTENGINE_RUN" --state "$WTENGINE_STATE" --outcome ok \
                        2> "\(place)/refusal"
                    echo $? > "\(place)/status.new"; mv "\(place)/status.new" "\(place)/status"' &
                until_there "\(place)/escaped"
                \(ending);;
            esac
            touch "\(place)/second"
            until_there "\(place)/status" || exit 1
            [ -z "$(git status --porcelain)" ] && [ "$(cat shared.txt)" = base ] || exit 1
            echo second > shared.txt; git commit --quiet -am second
            result ok
            """
        ).run(once: true)
        let runs = try await project.engine.runs(issue: issue)
        #expect(runs.map { $0.key.run.description.suffix(4) } == ["0001", "0002"])
        let (first, second) = (try #require(runs.first), try #require(runs.last))
        #expect(first.superseded)
        #expect(first.outcome == .superseded)
        #expect(second.outcome == .ok)
        #expect(try await git("show", "HEAD:shared.txt", in: second.path) == "second\n")
        // Refused in the name of the second run, and noted.
        #expect(try String(contentsOfFile: "\(place)/status", encoding: .utf8) == "2\n")
        let refusal = try String(contentsOfFile: "\(place)/refusal", encoding: .utf8)
        #expect(refusal.contains("WT-STALE"))
        #expect(refusal.contains(second.key.run.description))
        #expect(try await project.engine.audit(run: first.key.run).contains { $0.action == "report.stale" })
        // The issue has heard of the second run only, and the first one's result is kept.
        #expect(try await project.labels(issue) == ["state:review"])
        let events = try await project.events(issue)
        #expect(events.map { $0["Action"] } == ["claim", "switch", "finish"])
        #expect(events.last?["RunId"] == second.key.run.description)
        #expect(events[1]["Replaces"] == first.key.run.description)
        let pack = ContextPack(run: first.key, in: "\(project.engine.configuration.state)/packs")
        #expect(try pack.result()?.text.contains("Late.") == true)
    }

    @Test("C: a policy decides when a workdir goes, and the audit log knows of each", arguments: Backend.allCases)
    func policies(backend: Backend) async throws {
        for (policy, isGoneAtOnce, isGoneLater) in [
            ("immediate", true, true), ("0s", false, true), ("keep", false, false),
        ] {
            let project = try await Project(backend, workdir: "[workdir.policies]\nok = \"\(policy)\"")
            let issue = try await project.open()
            let worker = "echo done > shared.txt; git commit --quiet -am done; result ok"
            try await project.lead(worker).run(once: true)
            let run = try #require(try await project.engine.runs().first)
            // The sweep of the first Lead may have seen the end of the run, or may not have.
            if policy != "0s" { #expect((run.state == .removed) == isGoneAtOnce, "\(policy)") }
            try await project.lead(worker).run(once: true)
            let later = try await project.engine.run(run.key)
            #expect((later.state == .removed) == isGoneLater, "\(policy)")
            #expect(FileManager.default.fileExists(atPath: run.path) != isGoneLater, "\(policy)")
            let pack = ContextPack(run: run.key, in: "\(project.engine.configuration.state)/packs")
            // Kept for a week, whatever becomes of the workdir.
            #expect(FileManager.default.fileExists(atPath: pack.directory), "\(policy)")
            #expect(try await project.labels(issue) == ["state:review"])
            let cleanups = try await project.engine.audit(issue: issue).filter { "\($0.action)".hasPrefix("cleanup.") }
            #expect(
                cleanups.map(\.action) == (isGoneLater ? ["cleanup.intent", "cleanup.checked", "cleanup.done"] : []))
            for event in cleanups {
                #expect(event.key == run.key)
                #expect(event.path == run.path)
                #expect(event.actor == "lead-test")
            }
            // The branch has the work.
            #expect(try await git("show", "\(run.branch ?? ""):shared.txt", in: project.repository) == "done\n")
        }
    }
}

/// An executable of this build.
func product(_ name: String) -> String {
    let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
    return URL(fileURLWithPath: bundle).deletingLastPathComponent().appendingPathComponent(name).path
}

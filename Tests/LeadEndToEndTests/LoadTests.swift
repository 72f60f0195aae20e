import Foundation
import LeadKit
import TestSupport
import Testing
import WorktreeEngine

/// The requirement's figures: many runs with failures and switches, and the same load on one shared directory.
@Suite(.serialized) struct LoadTests {
    /// What a worker does, whatever directory it is in: it looks for work of others, does its own in two steps with a
    /// pause between them, looks again, and commits. What it sees that is not its own is a conflict.
    static let work = """
        me="$WTENGINE_ISSUE $WTENGINE_RUN"
        conflict() { echo "$me: $1" >> "$CONFLICTS"; }
        seen() { [ "$(cat work.txt 2>/dev/null)" = "$1" ] || conflict "$2"; }
        seen base 'not at the base'
        [ -z "$(git status --porcelain 2>/dev/null)" ] || conflict 'not clean'
        echo "$me" > work.txt
        sleep 0.02
        seen "$me" 'changed under its hands'
        git commit --quiet -am "$me" 2>/dev/null || conflict 'could not commit'
        [ "$(git log -1 --format=%s 2>/dev/null)" = "$me" ] || conflict 'another commit on top'

        """

    /// How a worker ends, decided by its name, so that each load is the same.
    static let fate = """
        case $(( $(printf %s "$me" | cksum | cut -d' ' -f1) % 20 )) in
        0|1) kill -9 $$;;
        2) exit 3;;
        3) exec sleep 600;;
        4) result fail;;
        5) result blocked;;
        6) printf 'IssueRef: local#999999\\nRunId: x\\nStatus: ok\\n\\n' > "$WTENGINE_CONTEXT_PACK/work_result.txt";;
        7) exit 0;;
        *) result ok;;
        esac
        """

    @Test("200 runs with failures and switches: every run is traced, nothing happens twice, nothing is seen in another")
    func manyRuns() async throws {
        let project = try await Project(
            .sqlite, maxConcurrent: 4, group: "timeout = \"3s\"",
            workdir: "[workdir.policies]\nok = \"immediate\"\nfail = \"0s\"", files: [TestFile("work.txt", "base\n")])
        let place = project.scratch.path
        var issues: [IssueRef] = []
        for number in 1...190 { issues.append(try await project.open("Task \(number)")) }
        let worker = """
            export CONFLICTS="\(place)/conflicts"
            echo "$WTENGINE_ISSUE $WTENGINE_RUN $WTENGINE_WORKDIR" >> "\(place)/begun"
            """ + "\n" + Self.work + Self.fate

        // Leads that are stopped while their workers are at work, and go on, until nothing is left.
        for _ in 1...3 {
            let lead = project.lead(worker, grace: .milliseconds(50))
            let end = Task {
                try await Task.sleep(for: .seconds(4))
                lead.stop()
            }
            try await lead.run()
            end.cancel()
        }
        try await project.lead(worker, grace: .milliseconds(50)).run(once: true)

        let runs = try await project.engine.runs()
        #expect(runs.count >= 200)
        let begun = try String(contentsOfFile: "\(place)/begun", encoding: .utf8).split(separator: "\n")
            .map { $0.split(separator: " ").map(String.init) }

        // Traceability: from each run to its workdir, and from each workdir that is there back to the run.
        let paths = Dictionary(uniqueKeysWithValues: runs.map { ("\($0.key)", $0.path) })
        #expect(Set(paths.values).count == runs.count)
        for entry in begun { #expect(paths["\(entry[0]) \(entry[1])"] == entry[2]) }
        for run in runs where run.state != .removed {
            #expect(try await project.engine.run(containing: "\(run.path)/work.txt")?.key == run.key)
        }

        // Idempotence: no worker begins twice, no event is written twice, and every issue has come to an end.
        #expect(Set(begun.map { "\($0[0]) \($0[1])" }).count == begun.count)
        for issue in issues {
            let events = try await project.events(issue)
            let triggers = events.compactMap { $0["Trigger"] }
            #expect(Set(triggers).count == triggers.count, "\(issue): \(triggers)")
            let ends = events.filter { ["finish", "cleanup", "run", "spawn"].contains($0["Action"]) }
            #expect(ends.filter { $0["Action"] == "finish" }.count == 1, "\(issue)")
            let state = try await project.labels(issue)
            #expect(
                [["state:review"], ["state:blocked"]].contains(state.subtracting(["needs-human"])), "\(issue) \(state)")
            let own = runs.filter { $0.key.issue == issue }
            #expect(own.filter { !$0.superseded }.count == 1)
            #expect(own.allSatisfy { !$0.isActive })
        }

        // Isolation: no worker has seen another's work, nor has a branch.
        let conflicts = try? String(contentsOfFile: "\(place)/conflicts", encoding: .utf8)
        #expect(conflicts == nil)
        let log = try await git("log", "--all", "--format=%S %s", in: project.repository)
        for line in log.split(separator: "\n") where line.contains("run/") {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 3 else { continue }
            #expect(words[0].hasSuffix("run/\(words[1])/\(words[2])"), "\(line)")
        }

        // Audit: of every workdir that is gone.
        for run in runs where run.state == .removed {
            let done = try await project.engine.audit(issue: run.key.issue, run: run.key.run)
                .filter { $0.action == "cleanup.done" }
            #expect(done.count == 1)
            #expect(done.first?.path == run.path)
            #expect(done.first?.to == .removed)
            #expect(done.first?.actor.isEmpty == false)
        }
        let superseded = runs.filter(\.superseded).count
        print("LeadKit: \(runs.count) runs, \(superseded) switches, 0 conflicts")
    }

    /// The situation before: all workers in one clone. What they see of one another is counted, for the reduction.
    @Test("the same load on one shared directory has conflicts, and one worker alone there has none")
    func sharedDirectory() async throws {
        let alone = try await conflicts(runs: 10, workers: 1)
        #expect(alone == [])
        let lines = try await conflicts(runs: 200, workers: 4)
        let runs = Set(lines.map { $0.prefix { $0 != ":" } })
        print("one shared directory: 200 runs, \(runs.count) of them with conflicts, \(lines.count) conflicts")
        // Four processes that write one file in turns of 20 ms each cannot all miss one another.
        #expect(!lines.isEmpty)
    }

    /// What that many runs see of one another in one directory.
    private func conflicts(runs: Int, workers: Int) async throws -> [String] {
        let project = try await Project(.sqlite, files: [TestFile("work.txt", "base\n")])
        let (place, repository) = (project.scratch.path, project.repository)
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<workers {
                group.addTask {
                    for number in stride(from: worker, to: runs, by: workers) {
                        // Begins where a spawn does: at the base. Whether that works is part of what is counted.
                        _ = try? await run(
                            ["sh", "-c", "git checkout --quiet --force --detach main; " + Self.work], in: repository,
                            expecting: nil,
                            environment: [
                                "WTENGINE_ISSUE": "local#\(number + 1)", "WTENGINE_RUN": "2026-02-14-backend-0001",
                                "CONFLICTS": "\(place)/conflicts",
                            ])
                    }
                }
            }
        }
        let text = try? String(contentsOfFile: "\(place)/conflicts", encoding: .utf8)
        return (text ?? "").split(separator: "\n").map(String.init)
    }
}

import ForgeServers
import Foundation
import Subprocess
import SystemPackage
import TestSupport
import Testing
import WorktreeEngine

/// `wtengine lead` as a process, and the Lead of docs/embedding.md.
@Suite struct CommandTests {
    private static let worker = WorkerScript.prelude + "echo done > shared.txt; git commit --quiet -am done; result ok"

    /// What a worker may expect, and what it may not see.
    private static let inspection = """
        env | grep -q \(FakeForge.token) && exit 1
        # Root may read everything.
        [ "$(id -u)" = 0 ] || { grep -q \(FakeForge.token) /proc/$PPID/environ && exit 1; }
        [ "$PWD" = "$WTENGINE_WORKDIR" ] && grep -q '^As said.$' "$WTENGINE_CONTEXT_PACK/spec.md" || exit 1
        grep -q "\\"repo_dir\\" : \\"$WTENGINE_WORKDIR\\"" "$WTENGINE_WORK_ORDER" || exit 1
        grep -q "\\"run_id\\" : \\"$WTENGINE_RUN\\"" "$WTENGINE_WORK_ORDER" || exit 1

        """

    private func wtengine(_ arguments: [String], program: String = "wtengine") async throws
        -> (status: TerminationStatus, output: String, message: String)
    {
        let tokens: [Subprocess.Environment.Key: String?] = [
            "GITHUB_TOKEN": FakeForge.token, "GITLAB_TOKEN": FakeForge.token,
        ]
        let output = try MemoryFile(limit: 1 << 20)
        let message = try MemoryFile(limit: 1 << 20)
        let result = try await Subprocess.run(
            .path(FilePath(product(program))), arguments: Arguments(arguments),
            environment: .inherit.updating(tokens), input: .none,
            output: .fileDescriptor(output.descriptor, closeAfterSpawningProcess: false),
            error: .fileDescriptor(message.descriptor, closeAfterSpawningProcess: false))
        return (
            result.terminationStatus, String(decoding: try output.bytes(), as: UTF8.self),
            String(decoding: try message.bytes(), as: UTF8.self)
        )
    }

    private func arguments(_ project: Project, worker: String = worker, _ more: [String] = []) -> [String] {
        [
            "lead", "run", "--profile", project.profilePath, "--state", project.engine.configuration.state, "--worker",
            worker,
        ] + more
    }

    @Test("once: drains what waits and exits, and no worker sees a token", arguments: Backend.allCases)
    func once(backend: Backend) async throws {
        let project = try await Project(backend)
        let issues = [try await project.open("One"), try await project.open("Two")]
        let answer = try await wtengine(
            arguments(
                project, worker: Self.inspection + Self.worker, ["--once"]))
        #expect(answer.status == .exited(0), "\(answer.message)")
        #expect(answer.output == "")
        for issue in issues { #expect(try await project.labels(issue) == ["state:review"]) }
    }

    @Test("a filter that a worker has put into the repository sees no token")
    func filter() async throws {
        let project = try await Project(.sqlite)
        let place = project.scratch.path
        try await git("config", "filter.x.smudge", "env > \(place)/seen; cat", in: project.repository)
        try write(TestFile(".git/info/attributes", "* filter=x\n"), in: project.repository)
        let issue = try await project.open()
        let answer = try await wtengine(arguments(project, ["--once"]))
        #expect(answer.status == .exited(0), "\(answer.message)")
        #expect(try await project.labels(issue) == ["state:review"])
        let seen = try String(contentsOfFile: "\(place)/seen", encoding: .utf8)
        #expect(seen.contains("PATH=") && !seen.contains(FakeForge.token))
    }

    @Test("the Lead of docs/embedding.md leaves no run active when a pack cannot be written")
    func embeddingWithoutPacks() async throws {
        let project = try await Project(.sqlite)
        let state = project.engine.configuration.state
        try "".write(toFile: "\(state)/packs", atomically: true, encoding: .utf8)
        let issue = try await project.open()
        let answer = try await wtengine([project.profilePath, state, Self.worker], program: "minimal-lead")
        #expect(answer.status == .exited(0), "\(answer.message)")
        #expect(try await project.labels(issue).contains("state:blocked"))
        #expect(try await project.engine.runs().map(\.outcome) == [.fail])
    }

    @Test("SIGTERM stops it with 0, SIGKILL does not matter: the next one goes on", arguments: [SIGTERM, SIGKILL])
    func signals(number: Int32) async throws {
        let project = try await Project(.sqlite)
        let place = project.scratch.path
        let issue = try await project.open()
        let worker =
            WorkerScript.prelude + """
                echo begun >> "\(place)/begun"; until_there "\(place)/go" || exit 1
                echo done > shared.txt; git commit --quiet -am done; result ok
                """
        let lead = Process()
        lead.executableURL = URL(fileURLWithPath: product("wtengine"))
        lead.arguments = arguments(project, worker: worker, ["--grace", "0s", "--interval", "1s"])
        try lead.run()
        for _ in 0..<1200 where !FileManager.default.fileExists(atPath: "\(place)/begun") {
            try await Task.sleep(for: .milliseconds(50))
        }
        kill(lead.processIdentifier, number)
        await blockingWait(lead)
        if number == SIGTERM { #expect(lead.terminationStatus == 0) }
        #expect(try await project.engine.runs().first?.state == .attached)
        try "".write(toFile: "\(place)/go", atomically: true, encoding: .utf8)
        let answer = try await wtengine(arguments(project, worker: worker, ["--once"]))
        #expect(answer.status == .exited(0), "\(answer.message)")
        #expect(try await project.labels(issue) == ["state:review"])
        #expect(try String(contentsOfFile: "\(place)/begun", encoding: .utf8) == "begun\n")
    }

    @Test(
        "killed again and again at any moment, it does nothing twice and leaves nothing out",
        arguments: Backend.allCases)
    func killed(backend: Backend) async throws {
        let project = try await Project(backend, maxConcurrent: 3)
        let place = project.scratch.path
        var issues: [IssueRef] = []
        for number in 1...6 { issues.append(try await project.open("Task \(number)")) }
        let worker =
            WorkerScript.prelude + "echo \"$WTENGINE_ISSUE $WTENGINE_RUN\" >> \"\(place)/begun\"; sleep 0.1\n"
            + "echo done > shared.txt; git commit --quiet -am done; result ok"
        for _ in 1...12 {
            let lead = Process()
            lead.executableURL = URL(fileURLWithPath: product("wtengine"))
            // A worker that was attached and never begun counts as one that died, so there are attempts enough.
            lead.arguments = arguments(project, worker: worker, ["--once", "--attempts", "20"])
            lead.environment = ProcessInfo.processInfo.environment.merging(Project.tokens) { $1 }
            try lead.run()
            try await Task.sleep(for: .milliseconds(.random(in: 20...400)))
            kill(lead.processIdentifier, SIGKILL)
            await blockingWait(lead)
        }
        let answer = try await wtengine(arguments(project, worker: worker, ["--once", "--attempts", "20"]))
        #expect(answer.status == .exited(0), "\(answer.message)")
        let begun = try String(contentsOfFile: "\(place)/begun", encoding: .utf8).split(separator: "\n")
        #expect(Set(begun).count == begun.count)
        for issue in issues {
            #expect(try await project.labels(issue) == ["state:review"])
            let events = try await project.events(issue)
            let triggers = events.compactMap { $0["Trigger"] }
            #expect(Set(triggers).count == triggers.count, "\(triggers)")
            #expect(events.first?["Action"] == "claim")
            #expect(events.last?["Action"] == "finish")
            #expect(events.filter { $0["Action"] == "finish" }.count == 1)
            let runs = try await project.engine.runs(issue: issue)
            #expect(runs.filter { $0.outcome == .ok }.count == 1)
            #expect(runs.allSatisfy { !$0.isActive })
        }
        #expect(try await project.engine.recover().isEmpty)
    }

    @Test("what is wrong is said with the exit code of its kind")
    func failures() async throws {
        let project = try await Project(.sqlite)
        func status(_ arguments: [String]) async throws -> TerminationStatus {
            let answer = try await wtengine(arguments)
            #expect(answer.message.hasPrefix("wtengine: WT-"), "\(answer.message)")
            return answer.status
        }
        #expect(try await status(["lead", "run", "--profile", "x"]) == .exited(64))
        #expect(try await status(arguments(project, ["--interval", "soon"])) == .exited(64))
        #expect(try await status(arguments(project, ["--role", "qa"])) == .exited(64))
        #expect(try await status(arguments(project).map { $0 == project.profilePath ? "/nowhere" : $0 }) == .exited(4))
        // The roots of the profile must be those that the commands may touch.
        let roots = "\(project.scratch.path)/roots"
        try FileManager.default.createDirectory(atPath: roots, withIntermediateDirectories: true)
        let text = try String(contentsOfFile: project.profilePath, encoding: .utf8)
        try (text + "\n[workdir]\nroots = [\"\(roots)\"]\n").write(
            toFile: project.profilePath, atomically: true, encoding: .utf8)
        #expect(try await status(arguments(project, ["--once"])) == .exited(4))
        try "roots = [\"\(roots)\"]\n".write(
            toFile: "\(project.engine.configuration.state)/config.toml", atomically: true, encoding: .utf8)
        let issue = try await project.open()
        #expect(try await wtengine(arguments(project, ["--once"])).status == .exited(0))
        #expect(try await project.labels(issue) == ["state:review"])
    }

    @Test("help says what the command does")
    func help() async throws {
        let answer = try await wtengine(["lead", "run", "--help"])
        #expect(answer.status == .exited(0))
        #expect(answer.output.contains("wtengine lead run --profile"))
    }

    @Test("the Lead of docs/embedding.md is the program that is built, and works", arguments: Backend.allCases)
    func embedding(backend: Backend) async throws {
        let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: package.appending(path: "docs/embedding.md"), encoding: .utf8)
        let program = try String(contentsOf: package.appending(path: "Tests/MinimalLead/main.swift"), encoding: .utf8)
        #expect(page.contains("```swift\n\(program)```"))

        let project = try await Project(backend)
        let (good, bad) = (try await project.open("Good"), try await project.open("Bad"))
        let worker =
            "case $WTENGINE_ISSUE in *#\(bad.description.split(separator: "#")[1])) exit 1;; esac\n" + Self.worker
        let answer = try await wtengine(
            [project.profilePath, project.engine.configuration.state, worker], program: "minimal-lead")
        #expect(answer.status == .exited(0), "\(answer.message)")
        #expect(try await project.labels(good) == ["state:review"])
        #expect(try await project.labels(bad) == ["state:blocked"])
    }

    /// Away from the cooperative pool.
    private func blockingWait(_ process: Process) async {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                process.waitUntilExit()
                continuation.resume()
            }
        }
    }
}

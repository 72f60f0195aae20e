import Foundation
import Glibc
import TestSupport
import Testing
import WorktreeEngine

@testable import LeadKit

@Suite struct WorkerTests {
    let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func start(_ command: String, _ environment: [String: String] = ["PATH": "/usr/bin:/bin"]) async throws
        -> Worker
    {
        try await Worker.start(
            command, in: scratch.path, environment: environment, output: "\(scratch.path)/log")
    }

    private func file(_ name: String) -> String? {
        try? String(contentsOfFile: "\(scratch.path)/\(name)", encoding: .utf8)
    }

    /// Waits for something that another process does.
    private func eventually(_ condition: () -> Bool) async throws -> Bool {
        for _ in 0..<1200 {
            if condition() { return true }
            try await Task.sleep(for: .milliseconds(50))
        }
        return false
    }

    @Test func `nothing of a command runs before it may begin`() async throws {
        let worker = try await start("echo began > began")
        #expect(ProcessTable.isAlive(worker.process))
        try await Task.sleep(for: .milliseconds(100))
        #expect(file("began") == nil)
        worker.begin()
        worker.begin()
        #expect(await worker.end(within: .seconds(60), grace: .seconds(1)) == .exited(status: 0))
        #expect(file("began") == "began\n")
    }

    @Test func `a worker that is dropped before it may begin never does`() async throws {
        var worker: Worker? = try await start("echo began > began")
        let process = try #require(worker?.process)
        worker = nil
        _ = worker
        #expect(try await eventually { !ProcessTable.isAlive(process) })
        #expect(file("began") == nil)
    }

    @Test(arguments: [("exit 3", 3), ("kill -9 $$", 137), ("nonsense-command", 127)])
    func `the status is that of a shell`(command: String, status: Int32) async throws {
        let worker = try await start(command)
        worker.begin()
        #expect(await worker.end(within: .seconds(60), grace: .seconds(1)) == .exited(status: status))
    }

    @Test func `output goes to the file, and only what was given is in the environment`() async throws {
        let worker = try await start("echo out; echo err >&2; env; cat", ["PATH": "/usr/bin:/bin", "ONLY": "this"])
        worker.begin()
        #expect(await worker.end(within: .seconds(60), grace: .seconds(1)) == .exited(status: 0))
        let log = try #require(file("log"))
        #expect(log.hasPrefix("out\nerr\n"))
        let names = log.split(separator: "\n").filter { $0.contains("=") }.map { $0.prefix { $0 != "=" } }
        #expect(Set(names).subtracting(["PWD", "_", "SHLVL", "OLDPWD"]) == ["PATH", "ONLY"])
    }

    @Test func `it inherits no descriptor and no ignored signal`() async throws {
        signal(SIGPIPE, SIG_IGN)
        let worker = try await start("ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status")
        worker.begin()
        #expect(await worker.end(within: .seconds(60), grace: .seconds(1)) == .exited(status: 0))
        let lines = try #require(file("log")).split(separator: "\n")
        // Three, and the directory that ls looks at.
        #expect(lines.first == "4")
        // Those above 31 are glibc's own, and no program may set them.
        let ignored = try #require(lines.last.flatMap { UInt64($0.suffix(16), radix: 16) })
        #expect(ignored & 0x7fff_ffff == 0)
    }

    @Test func `when its lease is over the whole group is ended, at last by SIGKILL`() async throws {
        let worker = try await start(
            "trap '' TERM; (trap '' TERM; exec sleep 600) & echo $! > child; echo ready > ready; wait; sleep 600")
        worker.begin()
        #expect(try await eventually { file("ready") != nil })
        #expect(await worker.end(within: .zero, grace: .milliseconds(100)) == .overdue)
        let child = try #require(file("child").flatMap { Int32($0.trimmingCharacters(in: .whitespacesAndNewlines)) })
        #expect(try await eventually { ProcessTable.worker(child) == nil })
        #expect(!ProcessTable.isAlive(worker.process))
    }

    @Test func `a worker below a bare shell gets the grace period, though the shell dies at once`() async throws {
        let worker = try await start(
            """
            sh -c 'trap "sleep 0.3; echo kept > kept; exit 0" TERM; echo ready > ready; while :; do sleep 0.05; done'
            true
            """)
        worker.begin()
        #expect(try await eventually { file("ready") != nil })
        #expect(await worker.end(within: .zero, grace: .seconds(60)) == .overdue)
        #expect(file("kept") == "kept\n")
        #expect(!ProcessTable.isGroupRunning(of: worker.process))
    }

    /// Starts a command by a bare shell that leads a group and is not a child of this process, as after a restart.
    private func startElsewhere(_ command: String) async throws -> WorkerProcess {
        try "\(command)\ntrue\n".write(toFile: "\(scratch.path)/command", atomically: true, encoding: .utf8)
        try await shell(
            "setsid sh -c 'echo $$ > leader; . ./command' > /dev/null 2>&1 < /dev/null &", in: scratch.path)
        #expect(try await eventually { file("ready") != nil })
        let pid = try #require(file("leader").flatMap { Int32($0.trimmingCharacters(in: .whitespacesAndNewlines)) })
        return try #require(ProcessTable.worker(pid))
    }

    @Test func `an adopted worker that ignores SIGTERM is ended, though the shell above it dies at once`() async throws
    {
        let process = try await startElsewhere(
            "sh -c 'trap \"\" TERM; echo ready > ready; while :; do sleep 0.05; done'")
        let worker = try #require(try Worker.adopt(process))
        #expect(ProcessTable.isGroupRunning(of: process))
        #expect(await worker.end(within: .zero, grace: .milliseconds(100)) == .overdue)
        #expect(!ProcessTable.isGroupRunning(of: process))
    }

    @Test func `what an adopted worker leaves running in its group ends with it`() async throws {
        let process = try await startElsewhere(
            "sleep 600 & echo ready > ready; while [ ! -e go ]; do sleep 0.05; done")
        let worker = try #require(try Worker.adopt(process))
        try "".write(toFile: "\(scratch.path)/go", atomically: true, encoding: .utf8)
        #expect(await worker.end(within: .seconds(60), grace: .seconds(1)) == .exited(status: nil))
        #expect(!ProcessTable.isGroupRunning(of: process))
    }

    @Test func `the age of a process counts from its start on this boot`() async throws {
        let own = try #require(ProcessTable.worker(getpid()))
        let worker = try await start("true")
        let (older, younger) = (ProcessTable.age(of: own), ProcessTable.age(of: worker.process))
        #expect(try #require(older) > #require(younger))
        #expect(try #require(younger) > .seconds(-1))
        #expect(ProcessTable.age(of: WorkerProcess(pid: own.pid, start: "another boot:1", host: own.host)) == nil)
    }

    @Test func `what a worker leaves running in its group ends with it`() async throws {
        let worker = try await start("sleep 600 & echo $! > child")
        worker.begin()
        #expect(await worker.end(within: .seconds(60), grace: .seconds(1)) == .exited(status: 0))
        let child = try #require(file("child").flatMap { Int32($0.trimmingCharacters(in: .whitespacesAndNewlines)) })
        #expect(try await eventually { ProcessTable.worker(child) == nil })
    }

    @Test func `a worker that is left lives on, and another waits for its end`() async throws {
        let worker = try await start("while [ ! -e go ]; do sleep 0.05; done; echo done > done")
        worker.begin()
        async let ending = worker.end(within: .seconds(60), grace: .seconds(1))
        worker.leave()
        #expect(await ending == .left)
        let adopted = try #require(try Worker.adopt(worker.process))
        try "".write(toFile: "\(scratch.path)/go", atomically: true, encoding: .utf8)
        let end = await adopted.end(within: .seconds(60), grace: .seconds(1))
        #expect(end == .exited(status: nil))
        #expect(file("done") == "done\n")
        #expect(try Worker.adopt(worker.process) == nil)
    }

    @Test func `a number that belongs to another process now is not adopted`() async throws {
        let own = try #require(ProcessTable.worker(getpid()))
        let earlier = WorkerProcess(pid: own.pid, start: "another boot:1", host: own.host)
        #expect(try Worker.adopt(earlier) == nil)
        let elsewhere = WorkerProcess(pid: own.pid, start: own.start, host: "elsewhere.example.org")
        #expect(throws: EngineError.self) { try Worker.adopt(elsewhere) }
    }

    @Test func `a worker knows its run and not the token of its Lead`() throws {
        let key = try RunKey(issue: "org/repo#1", run: "2026-02-14-qa-0001")
        let pack = ContextPack(run: key, in: "/state/packs")
        let environment = Worker.environment(
            for: key, workdir: "/w", pack: pack, state: "/state",
            inheriting: ["GITHUB_TOKEN": "a", "GH_TOKEN": "b", "GITLAB_TOKEN": "c", "GIT_DIR": "/x", "LANG": "C"])
        #expect(
            environment == [
                "LANG": "C", "PWD": "/w", "WTENGINE_ISSUE": "org/repo#1", "WTENGINE_RUN": "2026-02-14-qa-0001",
                "WTENGINE_WORKDIR": "/w", "WTENGINE_STATE": "/state",
                "WTENGINE_CONTEXT_PACK": "/state/packs/org+repo+1/2026-02-14-qa-0001",
                "WTENGINE_WORK_ORDER": "/state/packs/org+repo+1/2026-02-14-qa-0001/work_order.json",
                "WTENGINE_RESULT": "/state/packs/org+repo+1/2026-02-14-qa-0001/work_result.json",
            ])
    }
}

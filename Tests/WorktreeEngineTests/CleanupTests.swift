import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct CleanupTests {
    // MARK: The token

    @Test(
        arguments: [
            ("an edit", "echo again >> README.md"),
            (
                "an edit with size and time kept",
                "cp -p new.txt $ROOT/kept; echo NEW > new.txt; touch -r $ROOT/kept new.txt"
            ),
            ("another staged content", "echo other > staged.txt; git add staged.txt; echo one > staged.txt"),
            (
                "another staged content behind the same file",
                "git update-index --cacheinfo 100644,$(echo z | git hash-object -w --stdin),staged.txt"
            ),
            ("a new commit", "git commit -q --allow-empty -m x"),
            ("a new untracked file", "echo x > another"),
            ("a new ignored file", "echo x > a.log"),
            ("a new stash", "git stash -q; git stash apply -q --index"),
            ("a detached HEAD", "git checkout -q --detach"),
            ("a new branch at HEAD", "git checkout -q -b other"),
            ("an operation", "git bisect start"),
            ("an edit in a nested repository", "echo second >> nested/file"),
            ("a commit in a nested repository", "git -C nested commit -qam second"),
            ("a new nested repository", "git init -q more"),
        ], [Materializer.checkout, .pool, .git])
    func `whatever changes after the plan ends the cleanup`(
        _ change: (name: String, script: String), _ materializer: Materializer
    ) async throws {
        let run = try await RunFixture(materializer)
        try await run.sh(
            "echo new > new.txt; echo more >> README.md; echo one > staged.txt; git add staged.txt; "
                + "git init -q nested; cd nested; echo x > file; git add .; git commit -qm x; echo first >> file")
        let plan = try await run.engine.planCleanup(run.key)
        try await run.sh(change.script)
        let before = try await run.witness()
        #expect(try await code { _ = try await run.engine.cleanup(plan, discard: true) } == .planChanged)
        let after = try await run.witness()
        #expect(after.files == before.files && after.references == before.references && after.head == before.head)
        #expect(after.worktrees == before.worktrees)
        #expect(after.run.state == .ready && after.run.removal == nil && after.run.isActive)
        #expect(try await run.engine.audit().last?.action == "cleanup.refused")
        let fresh = try await run.engine.planCleanup(run.key)
        #expect(try await run.engine.cleanup(fresh, discard: true).run.state == .removed)
    }

    @Test func `reading the workdir changes no token`() async throws {
        let run = try await RunFixture()
        try await run.sh("echo new > new.txt; git add new.txt; sleep 1; touch README.md")
        let plan = try await run.engine.planCleanup(run.key)
        try await run.sh("git status -s; git diff HEAD; cat README.md")
        #expect(try await run.engine.planCleanup(run.key).token == plan.token)
    }

    /// `$F` ends in a byte that is not UTF-8.
    @Test(
        arguments: [
            ("an untracked file", "printf one >$F", "printf 'two, precious' >$F"),
            ("another name of an untracked file", "printf one >$F", "mv $F ${F%?}$(printf '\\376')"),
            ("a tracked file", "printf one >$F; git add .; git commit -qm x; printf two >$F", "printf three >$F"),
            ("a file in a nested repository", "git init -q n; printf one >n/$F", "printf two >n/$F"),
            ("a nested repository", "git init -q $F; printf one >$F/x", "printf two >$F/x"),
            (
                "an ignored nested repository", "mkdir build; git init -q build/$F; printf one >build/$F/x",
                "printf two >build/$F/x"
            ),
            (
                "the name of an ignored file", "mkdir -p new; printf one >new/$F.log",
                "mv new/$F.log new/${F%?}$(printf '\\376').log"
            ),
            (
                "a file named as an index", "git init -q n; mkdir n/x.git; printf one >n/x.git/index",
                "printf two >n/x.git/index"
            ),
        ], [Materializer.checkout, .git])
    func `a name that is not UTF-8 is bound by the token as any other`(
        _ change: (name: String, before: String, after: String), _ materializer: Materializer
    ) async throws {
        let run = try await RunFixture(materializer)
        try await run.sh("F=$(printf 'x\\377'); " + change.before)
        let plan = try await run.engine.planCleanup(run.key)
        #expect(try await run.engine.planCleanup(run.key).token == plan.token)
        try await run.sh("F=$(printf 'x\\377'); " + change.after)
        #expect(try await code { _ = try await run.engine.cleanup(plan, discard: true) } == .planChanged)
        let fresh = try await run.engine.planCleanup(run.key)
        #expect(try await run.engine.cleanup(fresh, discard: true).run.state == .removed)
    }

    // MARK: Who is inside

    @Test(arguments: [
        ("cwd", "cd $WD; echo in; exec sleep 600"),
        ("cwd", "cd $WD/sub/deep; echo in; exec sleep 600"),
        ("fd", "exec 9< $WD/README.md; echo in; exec sleep 600"),
    ])
    func `a process inside keeps the workdir`(_ holds: String, _ script: String) async throws {
        let run = try await RunFixture()
        let early = try await run.engine.planCleanup(run.key)
        let child = try Child(script.replacing("$WD", with: run.path))
        defer { child.end() }
        let before = try await run.witness()
        // A plan of before it came.
        #expect(try await code { _ = try await run.engine.cleanup(early) } == .inUse)
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.processes.map(\.pid) == [child.pid])
        #expect(plan.processes.allSatisfy { $0.holds.hasPrefix(holds) && $0.name == "sleep" })
        #expect(try await code { _ = try await run.engine.cleanup(plan, discard: true) } == .inUse)
        #expect(try await run.witness().files == before.files)
        #expect(try await run.engine.run(run.key).state == .ready)
        child.end()
        #expect(try await run.engine.cleanup(run.engine.planCleanup(run.key)).run.state == .removed)
    }

    @Test func `a process whose first thread has ended is inside, and is a worker that lives`() async throws {
        let run = try await RunFixture()
        let child = try Child("echo in; exec \(builtProgram("leaderless")) \(run.path)")
        defer { child.end() }
        while try !String(contentsOfFile: "/proc/\(child.pid)/stat", encoding: .utf8).contains(") Z ") { usleep(1000) }
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.processes.map(\.pid) == [child.pid] && plan.processes.map(\.holds) == ["cwd"])
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .inUse)
        try await run.engine.attach(run.key, process: child.pid)
        #expect(try await run.engine.planCleanup(run.key).processes.map(\.holds) == ["worker", "cwd"])
        child.end()
        #expect(try await run.engine.cleanup(ifClean: run.key).run.state == .removed)
    }

    @Test func `who is inside when the files are read keeps the workdir, also when it has left by the end`()
        async throws
    {
        // git runs the filter while it compares README.md, which has been touched: the look at the files has begun.
        let run = try await RunFixture(
            .git,
            prepare: """
                printf '%s\\n' 'test -e pid && kill -9 $(cat pid) && while test -e /proc/$(cat pid)/fd/9; do :; done' \
                    'exec cat' >$ROOT/clean
                git config filter.x.clean "cd $ROOT; . ./clean"
                echo 'README.md filter=x' >>.gitattributes; git commit -qam filter
                """)
        try await run.sh("touch README.md")
        let early = try await run.engine.planCleanup(run.key)
        #expect(early.risks.isEmpty && early.processes.isEmpty)
        let child = try Child("exec 9<> \(run.path)/README.md; echo in; exec sleep 600")
        defer { child.end() }
        try write(TestFile("pid", "\(child.pid)"), in: run.scratch.path)
        #expect(try await code { _ = try await run.engine.cleanup(early) } == .inUse)
        #expect(try await run.engine.run(run.key).state == .ready)
        #expect(FileManager.default.fileExists(atPath: "\(run.path)/README.md"))
    }

    @Test func `a live worker keeps the workdir, wherever it is`() async throws {
        let run = try await RunFixture()
        let child = try Child("echo in; exec sleep 600")
        defer { child.end() }
        try await run.engine.attach(run.key, process: child.pid)
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.processes.map(\.holds) == ["worker"])
        #expect(try await code { _ = try await run.engine.cleanup(plan, discard: true) } == .inUse)
        #expect(try await run.engine.run(run.key).state == .attached)
        child.end()
        // The plan of before still names the worker; a new one does not.
        #expect(try await run.engine.cleanup(run.engine.planCleanup(run.key)).run.state == .removed)
    }

    @Test func `a later process with the worker's pid is not the worker`() async throws {
        let run = try await RunFixture()
        let child = try Child("echo in; exec sleep 600")
        defer { child.end() }
        try await run.engine.attach(run.key, process: child.pid)
        try await run.engine.registry.transition(run.key, from: [.attached], to: .attached, action: "test") { row in
            row.worker = row.worker.map { WorkerProcess(pid: $0.pid, start: $0.start + "0", host: $0.host) }
        }
        #expect(try await run.engine.planCleanup(run.key).processes.isEmpty)
        // Neither is one of before the last boot.
        try await run.engine.registry.transition(run.key, from: [.attached], to: .attached, action: "test") { row in
            row.worker = row.worker.map { WorkerProcess(pid: $0.pid, start: "other-boot:1", host: $0.host) }
        }
        #expect(try await run.engine.cleanup(run.engine.planCleanup(run.key)).run.state == .removed)
    }

    @Test func `a worker on another host counts as alive`() async throws {
        let run = try await RunFixture()
        try await run.engine.attach(run.key, process: getpid())
        try await run.engine.registry.transition(run.key, from: [.attached], to: .attached, action: "test") { row in
            row.worker = row.worker.map { WorkerProcess(pid: $0.pid, start: $0.start, host: "elsewhere") }
        }
        #expect(try await code { _ = try await run.engine.cleanup(run.engine.planCleanup(run.key)) } == .inUse)
    }

    // MARK: The branch

    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `a branch with commits of its own stays`(_ materializer: Materializer) async throws {
        let run = try await RunFixture(materializer)
        try await run.sh("echo x >> README.md; git commit -qam work")
        // The same content elsewhere is not the same commit: squash-merged work looks unmerged, and loses nothing.
        try await shell(
            "git merge -q --squash $B; git commit -qm squashed", in: run.repository.path, ["B": run.workdir.branch!])
        let head = try await git("rev-parse", "HEAD", in: run.path)
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.risks.isEmpty && plan.branchToDelete == nil)
        let report = try await run.engine.cleanup(plan)
        #expect(report.deletedBranch == nil)
        #expect(try await git("rev-parse", run.workdir.branch!, in: run.repository.path) == head)
    }

    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `a branch that is merged goes`(_ materializer: Materializer) async throws {
        let run = try await RunFixture(materializer)
        try await run.sh("echo x >> README.md; git commit -qam work")
        try await shell("git merge -q --no-edit $B", in: run.repository.path, ["B": run.workdir.branch!])
        let report = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        #expect(report.deletedBranch == run.workdir.branch)
        #expect(try await run.repository.branches() == ["main"])
    }

    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `a branch that another worktree has checked out stays`(_ materializer: Materializer) async throws {
        for script in [
            "git worktree add -q $ROOT/other $BRANCH",
            "git worktree add -q $ROOT/other $BRANCH; cd $ROOT/other; GIT_SEQUENCE_EDITOR='sed -i s/^pick/edit/' git rebase -q -i HEAD~1",
        ] {
            let run = try await RunFixture(materializer)
            try await run.sh("git commit -q --allow-empty -m x; git tag x; git checkout -q --detach;" + script)
            let report = try await run.engine.cleanup(run.engine.planCleanup(run.key))
            #expect(report.deletedBranch == nil)
            #expect(try await run.repository.branches().contains(run.workdir.branch!))
        }
    }

    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `commits of a branch that the configuration deletes are at risk`(_ materializer: Materializer) async throws {
        let run = try await RunFixture(materializer) { $0.deletesUnmergedBranches = true }
        try await run.sh("git commit -q --allow-empty -m work")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.risks.map(\.kind) == [.branchCommits])
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .workAtRisk)
        #expect(try await run.engine.cleanup(plan, discard: true).deletedBranch == run.workdir.branch)
        #expect(try await run.repository.branches() == ["main"])
    }

    @Test func `ignored files are listed, and refused when the configuration keeps them`() async throws {
        for keeps in [false, true] {
            let run = try await RunFixture { $0.keepsIgnoredFiles = keeps }
            try await run.sh("echo x > a.log; mkdir -p build/x; echo x > build/x/y")
            let plan = try await run.engine.planCleanup(run.key)
            #expect(plan.ignored == (keeps ? [] : ["a.log", "build/"]))
            #expect(plan.risks.map(\.path) == (keeps ? ["a.log", "build/"] : []))
            #expect(plan.risks.allSatisfy { $0.kind == .ignored })
            let code = try await code { _ = try await run.engine.cleanup(plan) }
            #expect(code == (keeps ? .workAtRisk : nil))
        }
    }
}

import Foundation
import Glibc
import TestSupport
import Testing
import WorktreeEngine

/// Repositories that libgit2 refuses or would silently get wrong: git serves them, under the same lifecycle.
@Suite struct FallbackTests {
    /// A way to make such a repository out of an ordinary one; a script that runs in it.
    struct Feature: Sendable, CustomTestStringConvertible {
        let name: String
        let script: String
        /// A word of the reason that doctor gives.
        let reason: String
        var arguments: [String] = []
        var testDescription: String { name }
    }

    /// HEAD is replaced by a commit with another tree.
    private static let replacing = """
        echo more >more; git add more; git replace HEAD $(git commit-tree -m other $(git write-tree)); git reset -q --hard
        """

    static let features: [Feature] = [
        Feature(name: "sha256", script: "true", reason: "objectformat", arguments: ["--object-format=sha256"]),
        Feature(name: "sparse checkout", script: "git sparse-checkout set sub", reason: "sparse"),
        Feature(
            name: "sparse checkout without cone", script: "git sparse-checkout set --no-cone '/*' '!sub'",
            reason: "sparse"),
        Feature(name: "worktreeConfig", script: "git config extensions.worktreeConfig true", reason: "worktreeconfig"),
        Feature(
            name: "worktreeConfig at version 0",
            script:
                "git config core.repositoryFormatVersion 0; git config extensions.worktreeConfig true; git config --worktree user.x y",
            reason: "worktreeconfig"),
        Feature(
            name: "split index", script: "git config core.splitIndex true; git update-index --split-index",
            reason: "splitindex"),
        Feature(name: "skipHash", script: "git config index.skipHash true", reason: "skiphash"),
        Feature(name: "many files", script: "git config feature.manyFiles true", reason: "manyfiles"),
        Feature(
            name: "filter driver",
            script: """
                git config filter.up.smudge 'tr a-z A-Z'; git config filter.up.clean 'tr A-Z a-z'
                echo '*.up filter=up' >>.gitattributes; printf 'content\\n' >x.up; git add -A; git commit -qm up
                """, reason: "filter=up"),
        Feature(
            name: "filter driver in info/attributes",
            script:
                "git config filter.up.smudge 'tr a-z A-Z'; git config filter.up.clean 'tr A-Z a-z'; echo 'README.md filter=up' >.git/info/attributes; rm README.md; git checkout README.md",
            reason: "filter=up"),
        Feature(
            name: "filter driver in a macro",
            script: """
                git config filter.up.smudge 'tr a-z A-Z'; git config filter.up.clean 'tr A-Z a-z'
                printf '[attr]big filter=up\\n*.up big\\n' >>.gitattributes; printf 'content\\n' >x.up; git add -A; git commit -qm up
                """, reason: "filter=up"),
        Feature(
            name: "working-tree-encoding",
            script:
                "echo '*.u16 working-tree-encoding=UTF-16LE' >>.gitattributes; printf 'a\\0b\\0\\n\\0' >f.u16; git add -A; git commit -qm u",
            reason: "working-tree-encoding"),
        Feature(
            name: "loose replace reference",
            script: replacing,
            reason: "refs/replace"),
        Feature(
            name: "packed replace reference",
            script: replacing + "; git pack-refs --all",
            reason: "refs/replace"),
        Feature(
            name: "grafts", script: "git commit -qm two --allow-empty; git rev-parse HEAD >.git/info/grafts",
            reason: "grafts"),
        // git before 2.43 ignores it; which one serves the repository is not ours to know.
        Feature(name: "attributes of a tree", script: "git config attr.tree HEAD", reason: "attr.tree"),
        Feature(name: "no symbolic links", script: "git config core.symlinks false", reason: "symlinks"),
        Feature(
            name: "shared repository", script: "git config core.sharedRepository group", reason: "sharedRepository"),
        Feature(
            name: "unknown extension at version 0",
            script: "git config core.repositoryFormatVersion 0; git config extensions.unheardOf x", reason: "unheardof"),
        Feature(
            name: "includeIf hasconfig",
            script:
                "git config remote.origin.url https://example.org/x; git config 'includeIf.hasconfig:remote.*.url:https://example.org/**.path' more",
            reason: "hasconfig"),
    ]

    @Test(arguments: features)
    func `git serves it, doctor says why, and the lifecycle is the same`(feature: Feature) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", TestFile.assorted, arguments: feature.arguments)
        try await sh(feature.script, in: repository.path)
        try await expectFallback(repository.path, reason: feature.reason, scratch: scratch)
    }

    @Test func `a partial clone`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await git("config", "uploadpack.allowFilter", "true", in: repository.path)
        try await git("config", "uploadpack.allowAnySHA1InWant", "true", in: repository.path)
        try await git(
            "clone", "--quiet", "--filter=blob:none", "--no-checkout", "file://\(repository.path)", "partial",
            in: scratch.path)
        try await expectFallback("\(scratch.path)/partial", reason: "partial", scratch: scratch)
    }

    @Test func `a shallow clone`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await repository.commit([TestFile("second")], message: "second")
        try await git("clone", "--quiet", "--depth=1", "file://\(repository.path)", "shallow", in: scratch.path)
        try await expectFallback("\(scratch.path)/shallow", reason: "shallow", scratch: scratch)
    }

    private func expectFallback(_ repository: String, reason: String, scratch: Scratch) async throws {
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository, materializer: .checkout), engine, code: .unsupported, mentions: reason,
            repository: repository)
        let findings = try await engine.doctor(repository: repository)
        #expect(findings.contains { $0.message.contains("git process") && $0.message.contains(reason) }, "\(findings)")
        let workdir = try await engine.spawn(request(repository))
        #expect(workdir.materializer == .git)
        let oracle = "\(scratch.path)/oracle"
        try await git("worktree", "add", "--quiet", "--detach", oracle, workdir.base, in: repository)
        let expected = try snapshot(oracle)
        #expect(try snapshot(workdir.path) == expected)
        #expect(try await git("status", "--porcelain", "--ignored", in: workdir.path) == "")
        try await git("worktree", "remove", "--force", oracle, in: repository)
        #expect(try await engine.verify(workdir.run) == [])
        try await expectLifecycle(workdir, engine, repository: repository)
    }
}

/// Attach, each kind of work at risk, detach, and cleanups that keep or delete the branch.
func expectLifecycle(_ workdir: Workdir, _ engine: Engine, repository: String) async throws {
    try await engine.attach(workdir.run, process: getpid())
    try await engine.detach(workdir.run, outcome: .ok)
    let tracked = try await sh(
        "git ls-files --format='%(objectmode) %(path)' | grep '^100644.*\\.md$' | head -1 | cut -d' ' -f2",
        in: workdir.path
    )
    .trimmingCharacters(in: .whitespacesAndNewlines)
    func kinds() async throws -> Set<Risk.Kind> { Set(try await engine.planCleanup(workdir.run).risks.map(\.kind)) }
    #expect(try await kinds() == [])
    let steps: [(Set<Risk.Kind>, String, String)] = [
        ([.modified], "echo more >>\(tracked)", "git checkout -q -- \(tracked)"),
        ([.untracked], "mkdir 'new dir'; echo x >\"$(printf 'new dir/a\\tb')\"", "rm -r 'new dir'"),
        ([.untracked], "echo x >\"$(printf 'n\\377')\"", "rm n*"),
        ([.staged], "echo more >>\(tracked); git add \(tracked)", "git reset -q --hard"),
        (
            [.hidden], "git update-index --assume-unchanged \(tracked); echo more >>\(tracked)",
            "git update-index --no-assume-unchanged \(tracked); git checkout -q -- \(tracked)"
        ),
        (
            [.hidden], "git update-index --skip-worktree \(tracked); echo more >>\(tracked)",
            "git update-index --no-skip-worktree \(tracked); git checkout -q -- \(tracked)"
        ),
        ([.operation], "git bisect start >/dev/null", "git bisect reset >/dev/null 2>&1"),
        (
            [.detachedCommits], "git checkout -q --detach; git commit -qm own --allow-empty",
            "git reset -q --hard HEAD~1"
        ),
        (
            [.detachedCommits], "git commit -qm own --allow-empty; git checkout -q -",
            "git reflog expire --expire-unreachable=now HEAD"
        ),
    ]
    for (risk, make, undo) in steps {
        try await sh(make, in: workdir.path)
        let plan = try await engine.planCleanup(workdir.run)
        // A sparse checkout takes skip-worktree back from a file that is there: the edit is then no hidden one.
        let found = Set(
            plan.risks.map { $0.kind == .modified && risk == [.hidden] && make.contains("skip") ? .hidden : $0.kind })
        #expect(found == risk, "\(make): \(plan.risks)")
        await #expect(throws: EngineError.self, "\(make)") { try await engine.cleanup(plan) }
        #expect(try await engine.run(workdir.run).state == .detached)
        try await sh(undo, in: workdir.path)
        #expect(try await kinds() == [], "\(undo)")
    }
    // Commits of its own keep the branch.
    try await sh("echo own >own; git add own; git commit -qm own", in: workdir.path)
    let own = try await sh("git rev-parse HEAD", in: workdir.path)
    let plan = try await engine.planCleanup(workdir.run)
    #expect(plan.risks.isEmpty, "\(plan.risks)")
    #expect(plan.branchToDelete == nil)
    #expect(try await engine.cleanup(plan).run.state == .removed)
    #expect(await engine.finishTrash() == 0)
    #expect(!FileManager.default.fileExists(atPath: workdir.path))
    let branch = try #require(workdir.branch)
    #expect(try await git("rev-parse", "refs/heads/\(branch)", in: repository) == own)
    #expect(try await !git("worktree", "list", in: repository).contains(workdir.path))
    // And without any it goes.
    var second = request(repository, issue: "local#2", materializer: workdir.materializer == .clone ? .clone : nil)
    second.branch = .named("second")
    let next = try await engine.spawn(second)
    #expect(next.materializer == workdir.materializer)
    let report = try await engine.cleanup(engine.planCleanup(next.run))
    #expect(report.deletedBranch == "second")
    #expect(try await git("branch", "--list", "second", in: repository) == "")
    #expect(await engine.finishTrash() == 0)
}

import Foundation
import Glibc
import TestSupport
import Testing
import WorktreeEngine

/// Each error on its own, and after it nothing half-made.
@Suite struct SpawnErrorTests {
    @Test func `a run id that was used, in every state`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path))
        let again = request(repository.path)
        try await expectRefused(again, engine, code: .runExists, mentions: "local#1", repository: repository.path)
        var switching = again
        switching.switching = true
        try await expectRefused(switching, engine, code: .runExists, repository: repository.path)
        try await engine.detach(workdir.run, outcome: .fail)
        try await expectRefused(again, engine, code: .runExists, repository: repository.path)
        _ = try await engine.cleanup(engine.planCleanup(workdir.run))
        _ = await engine.finishTrash()
        try await expectRefused(again, engine, code: .runExists, repository: repository.path)
    }

    @Test func `an active run of the same issue and role`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        _ = try await engine.spawn(request(repository.path))
        try await expectRefused(
            request(repository.path, run: "2026-02-14-backend-0002"), engine, code: .runActive,
            mentions: "2026-02-14-backend-0001",
            repository: repository.path)
    }

    @Test(arguments: ["directory", "file", "dangling link"])
    func `a path that is taken`(kind: String) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        _ = try await engine.spawn(request(repository.path, run: "2026-02-14-qa-0001"))
        let path = "\(engine.configuration.state)/workdirs/local+1/2026-02-14-backend-0001"
        switch kind {
        case "directory": try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        case "file": try "mine".write(toFile: path, atomically: false, encoding: .utf8)
        default: try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/nowhere/at/all")
        }
        try await expectRefused(
            request(repository.path), engine, code: .pathTaken, mentions: path, repository: repository.path)
        var value = stat()
        #expect(lstat(path, &value) == 0)
    }

    @Test(arguments: [false, true])
    func `a branch that is taken, or stands above or below another`(packed: Bool) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await sh("git branch a/b; git branch c; git branch -f run/x main", in: repository.path)
        if packed { try await git("pack-refs", "--all", in: repository.path) }
        let engine = try await scratch.engine()
        for name in ["a/b", "a", "a/b/c", "c", "c/d", "main", "main/x", "run"] {
            try await expectRefused(
                request(repository.path, branch: .named(name)), engine, code: .branchTaken, mentions: name,
                repository: repository.path)
        }
        _ = try await engine.spawn(request(repository.path, branch: .named("a/c")))
    }

    @Test(arguments: [
        "", " ", "-x", "a b", "a..b", "a.lock", "/a", "a/", "a//b", ".a", "a\nb", "a~b", "a^b", "a:b", "a?b", "a*b",
        "a[b", "a\\b", "a@{b", "@{-1}", "a.", "\u{7F}",
    ])
    func `an invalid branch`(name: String) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository.path, branch: .named(name)), engine, code: .invalidInput, repository: repository.path)
    }

    @Test(
        arguments: [
            "nowhere", "-x", "--all", "--output=/tmp/x", "", " ", "HEAD~99", "0123456789012345678901234567890123456789",
            "HEAD:README.md",
            "HEAD^{tree}", "a..b", "HEAD..main", "refs/heads/", "@{u}", "main@{99}", "\n",
        ], [false, true])
    func `a base that names no commit`(revision: String, byGit: Bool) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("README.md")])
        if byGit { try await git("config", "extensions.worktreeConfig", "true", in: repository.path) }
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository.path, base: revision), engine, code: .unknownBase, repository: repository.path)
    }

    @Test(arguments: [false, true])
    func `a HEAD without a commit`(byGit: Bool) async throws {
        let scratch = try Scratch()
        try await run(["git", "init", "--quiet", "repo"], in: scratch.path)
        let path = "\(scratch.path)/repo"
        if byGit { try await git("config", "extensions.worktreeConfig", "true", in: path) }
        let engine = try await scratch.engine()
        try await expectRefused(request(path), engine, code: .unbornHead, mentions: path, repository: path)
        try await expectRefused(request(path, base: "main"), engine, code: .unknownBase, repository: path)
    }

    @Test func `a repository that is missing, empty or none`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        let repository = try await scratch.repository("repo", [TestFile("file")])
        try FileManager.default.createDirectory(atPath: "\(scratch.path)/plain/.git", withIntermediateDirectories: true)
        for path in [
            "", "\(scratch.path)/nowhere", "\(scratch.path)/plain", "/", "\(scratch.path)/plain/.git", "/dev/null",
        ] {
            try await expectRefused(request(path), engine, code: .noRepository, repository: repository.path)
        }
    }

    @Test(
        arguments: [
            ("bad", "r", nil), ("local#1", "", nil), ("local#1", "x", nil), ("local#1", "2026-01-01-qa-1", "backend"),
            ("local#1", "x", "-r"),
        ] as [(String, String, String?)])
    func `names that are not valid`(issue: String, run: String, role: String?) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let engine = try await scratch.engine()
        var bad = request(repository.path, issue: issue, run: run)
        bad.role = role
        try await expectRefused(bad, engine, code: .invalidInput, repository: repository.path)
    }

    @Test func `a root inside a worktree, a missing root and the home of the user`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        try FileManager.default.createDirectory(atPath: "\(repository.path)/roots", withIntermediateDirectories: true)
        let inside = try await scratch.engine { $0.roots = ["\(repository.path)/roots"] }
        try await expectRefused(
            request(repository.path), inside, code: .pathNested, mentions: repository.path, repository: repository.path)
        #expect(try await git("status", "--porcelain", in: repository.path) == "")
        let missing = try await scratch.engine { $0.roots = ["\(scratch.path)/missing"] }
        try await expectRefused(request(repository.path), missing, code: .root, repository: repository.path)
        let top = try await scratch.engine { $0.roots = ["/"] }
        try await expectRefused(request(repository.path), top, code: .configuration, repository: repository.path)
    }

    @Test func `limits and the disk reserve`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let full = try await scratch.engine { $0.diskReserve = .max }
        try await expectRefused(request(repository.path), full, code: .disk, repository: repository.path)
        let engine = try await scratch.engine { $0.limits = Limits(perRepository: 2, perRole: 1) }
        _ = try await engine.spawn(request(repository.path))
        try await expectRefused(
            request(repository.path, issue: "local#2"), engine, code: .limit, repository: repository.path)
        _ = try await engine.spawn(request(repository.path, issue: "local#2", run: "2026-01-01-qa-1"))
        try await expectRefused(
            request(repository.path, issue: "local#3", run: "2026-01-01-docs-1"), engine, code: .limit,
            repository: repository.path)
    }

    @Test func `a missing blob in the middle of the tree`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await sh("rm -f .git/objects/$(git rev-parse HEAD:sub/data.dat | sed 's,^..,&/,')", in: repository.path)
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository.path), engine, code: .git, mentions: "sub/data.dat", repository: repository.path)
    }

    @Test func `a blob that is damaged in a pack and whole beside it is git's to find, when nothing is forced`()
        async throws
    {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await sh(
            """
            git rev-parse HEAD:sub/data.dat | git pack-objects -q .git/objects/pack/pack
            P=$(echo .git/objects/pack/*.pack); chmod +w $P; printf '\\377\\377\\377' | dd of=$P bs=1 seek=14 conv=notrunc
            """, in: repository.path)
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository.path, materializer: .checkout), engine, code: .git, mentions: "sub/data.dat",
            repository: repository.path)
        let workdir = try await engine.spawn(request(repository.path))
        #expect(workdir.materializer == .git)
        let expected = try await gitsOwnCheckout(of: workdir.base, in: repository.path, scratch: scratch)
        #expect(try snapshot(workdir.path) == expected)
        #expect(try await engine.verify(workdir.run) == [])
        _ = try await engine.cleanup(engine.planCleanup(workdir.run))
    }

    @Test(arguments: [["b", "a"], ["a", "a"], ["a", "a/f"], ["a", "a-b", "a/f"]])
    func `a tree out of order, or with a name twice, is git's to write`(_ names: [String]) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let tree = try await literalTree(names, in: repository.path)
        let base = String(try await git("commit-tree", "-m", "odd", tree, in: repository.path).prefix(40))
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path, base: base))
        #expect(workdir.materializer == .git)
        let expected = try await gitsOwnCheckout(of: base, in: repository.path, scratch: scratch)
        #expect(try snapshot(workdir.path) == expected)
        try await git("ls-files", "--debug", in: workdir.path)
    }

    @Test func `a tree that is deeper than any path`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let path = String(repeating: "d/", count: 25_000) + "f"
        try write(
            TestFile(
                "import",
                "commit refs/heads/deep\ncommitter T <t@e> 1 +0000\ndata 1\nx\nM 644 inline \(path)\ndata 1\ny\n"),
            in: scratch.path)
        try await sh("git fast-import --quiet --force <../import", in: repository.path)
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository.path, base: "deep"), engine, code: .git, mentions: "2048 levels",
            repository: repository.path)
    }

    @Test func `a tree with a path that git refuses`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let evil = try await sh(
            """
            B=$(git rev-parse HEAD:f); T=$(printf "100644 blob $B\\tf\\n100644 blob $B\\t.GIT.\\n" | git mktree)
            git commit-tree -m evil $T
            """, in: repository.path)
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository.path, base: String(evil.prefix(40))), engine, code: .git, repository: repository.path)
    }
}

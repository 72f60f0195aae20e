import Foundation
import TestSupport
import Testing
import WorktreeEngine

/// Every kind of repository and base that a spawn may be given.
@Suite struct SpawnSourceTests {
    @Test func `an ordinary repository`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await expectEqualsGit(repository.path, scratch: scratch)
        #expect(try await git("status", "--porcelain", in: repository.path) == "")
        let configuration = try String(contentsOfFile: "\(repository.path)/.git/config", encoding: .utf8)
        #expect(!configuration.contains("wtengine"))
    }

    @Test func `a packed repository, with packed references`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await git("gc", "--quiet", in: repository.path)
        try await expectEqualsGit(repository.path, scratch: scratch)
    }

    @Test func `a commit with an empty tree`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [])
        try await expectEqualsGit(repository.path, scratch: scratch)
    }

    @Test func `names that are not UTF-8, and names with every odd character`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f"), TestFile("new\nline/\"quoted\"\\ '*?")])
        try await sh(
            """
            printf x >"$(printf 'a\\377b')"; mkdir "$(printf 'dir\\376')"; printf y >"$(printf 'dir\\376/tab\\there')"
            ln -s "$(printf 'a\\377b')" "$(printf 'link\\351')"; git add -A; git commit -qm odd
            """, in: repository.path)
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path))
        let listing = "find . -name .git -prune -o -printf '%P %m %y %l\\n' | LC_ALL=C sort | od -c"
        try await expectClean(workdir.path)
        let oracle = "\(scratch.path)/oracle"
        try await git("worktree", "add", "--quiet", "--detach", oracle, in: repository.path)
        let expected = try await sh(listing, in: oracle)
        #expect(try await sh(listing, in: workdir.path) == expected)
    }

    @Test func `submodules are empty directories`() async throws {
        let scratch = try Scratch()
        let inner = try await scratch.repository("inner", [TestFile("inner-file")])
        let repository = try await scratch.repository()
        try await sh(
            "git -c protocol.file.allow=always submodule --quiet add ../inner mods/one; git commit -qm sub",
            in: repository.path)
        let workdir = try await expectEqualsGit(repository.path, scratch: scratch)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(workdir.path)/mods/one").isEmpty)
        #expect(FileManager.default.fileExists(atPath: "\(workdir.path)/.gitmodules"))
        // The submodule itself as the repository.
        let engine = try await scratch.engine()
        let second = try await engine.spawn(request("\(repository.path)/mods/one", issue: "local#2"))
        #expect(second.base == (try await inner.head()))
        #expect(try snapshot(second.path).keys.sorted() == ["inner-file"])
        try await expectClean(second.path)
        #expect(try await git("-C", "mods/one", "worktree", "list", in: repository.path).contains(second.path))
    }

    @Test func `a bare repository`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let bare = "\(scratch.path)/bare.git"
        try await git("clone", "--quiet", "--bare", repository.path, bare, in: scratch.path)
        let workdir = try await expectEqualsGit(bare, scratch: scratch)
        let engine = try await scratch.engine()
        #expect(try await engine.run(workdir.run).repo == bare)
        try await engine.detach(workdir.run, outcome: .ok)
        #expect(try await engine.cleanup(engine.planCleanup(workdir.run)).deletedBranch == workdir.branch)
        _ = await engine.finishTrash()
    }

    @Test func `a linked worktree: its HEAD is the base, its repository the main one`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let main = try await repository.head()
        let linked = "\(scratch.path)/linked"
        try await git("worktree", "add", "--quiet", "-b", "side", linked, in: repository.path)
        try await sh("echo side >side; git add side; git commit -qm side", in: linked)
        let head = try await sh("git rev-parse HEAD", in: linked)
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(linked))
        #expect(workdir.base + "\n" == head)
        #expect(workdir.base != main)
        #expect(FileManager.default.fileExists(atPath: "\(workdir.path)/side"))
        #expect(try await engine.run(workdir.run).repo == repository.path)
        // A run's workdir is such a worktree too, and a directory in it leads there as well.
        let second = try await engine.spawn(request("\(workdir.path)/sub/deep", issue: "local#2"))
        #expect(second.base == workdir.base)
        #expect(try await engine.run(second.run).commonDir == "\(repository.path)/.git")
    }

    @Test func `a symbolic link to the repository, and .git itself`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try FileManager.default.createSymbolicLink(
            atPath: "\(scratch.path)/alias", withDestinationPath: repository.path)
        let engine = try await scratch.engine()
        for (number, path) in ["\(scratch.path)/alias", "\(repository.path)/.git", "\(repository.path)/./sub/.."]
            .enumerated()
        {
            let workdir = try await engine.spawn(request(path, issue: "local#\(number + 1)"))
            #expect(try await engine.run(workdir.run).repo == repository.path)
        }
    }

    @Test func `a repository with core.worktree and one with a separate git directory`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository(
            "sep", TestFile.assorted, arguments: ["--separate-git-dir=\(scratch.path)/sep.git"])
        try await expectEqualsGit(repository.path, scratch: scratch)
    }

    @Test func `alternates`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await git("clone", "--quiet", "--shared", repository.path, "\(scratch.path)/shared", in: scratch.path)
        try await expectEqualsGit("\(scratch.path)/shared", scratch: scratch)
    }

    @Test func `any revision may be the base`() async throws {
        let scratch = try Scratch()
        let upstream = try await scratch.repository("upstream", [TestFile("remote-file")])
        let repository = try await scratch.repository()
        let first = try await repository.head()
        let second = try await repository.commit([TestFile("second")], message: "second")
        try await sh(
            """
            git tag light HEAD~1; git tag -a -m x annotated HEAD~1; git tag -a -m y onto annotated; git branch side HEAD~1
            git remote add origin ../upstream; git fetch -q origin
            """, in: repository.path)
        let remote = try await upstream.head()
        let engine = try await scratch.engine()
        let cases = [
            ("light", first), ("annotated", first), ("onto", first), ("side", first), ("refs/heads/side", first),
            ("HEAD~1", first),
            ("HEAD^", first), (first, first), (String(first.prefix(10)), first), ("main", second),
            ("origin/main", remote),
            ("HEAD@{0}", second), (":/second", second), ("annotated^{commit}", first), ("@", second),
        ]
        for (number, (revision, commit)) in cases.enumerated() {
            let workdir = try await engine.spawn(request(repository.path, issue: "local#\(number + 1)", base: revision))
            #expect(workdir.base == commit, "\(revision)")
            #expect(try await sh("git rev-parse HEAD", in: workdir.path) == "\(commit)\n", "\(revision)")
            try await expectClean(workdir.path)
        }
    }

    @Test func `HEAD is a new branch, a named branch or detached`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let first = try await engine.spawn(request(repository.path))
        #expect(
            try await git("symbolic-ref", "HEAD", in: first.path) == "refs/heads/run/local#1/2026-02-14-backend-0001\n")
        let second = try await engine.spawn(
            request(
                repository.path, issue: "local#2",
                branch: .named("topic/ünï code".replacingOccurrences(of: " ", with: "-"))))
        #expect(try await git("symbolic-ref", "HEAD", in: second.path) == "refs/heads/topic/ünï-code\n")
        let third = try await engine.spawn(request(repository.path, issue: "local#3", branch: .detached))
        #expect(third.branch == nil)
        #expect(try await git("symbolic-ref", "--quiet", "HEAD", in: third.path, expecting: 1) == "")
        for workdir in [first, second, third] {
            try await expectClean(workdir.path)
            #expect(try await git("config", "--get-regexp", "^branch\\.", in: repository.path, expecting: 1) == "")
            #expect(try await engine.verify(workdir.run) == [])
        }
    }
}

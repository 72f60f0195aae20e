import Foundation
import Git
import TestSupport
import Testing
import WorktreeEngine

@Suite struct IndexAndStatusTests {
    @Test func `the index of a workdir holds every entry, its stat data and the cache-tree`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(
            SpawnRequest(issue: "local#1", run: "2026-02-14-qa-0001", repository: repository.path))
        let entries = try await git("ls-files", "--stage", in: repository.path)
        #expect(try await git("ls-files", "--stage", in: workdir.path) == entries)
        #expect(try await git("diff-index", "--cached", "HEAD", in: workdir.path) == "")
        #expect(try await git("diff-files", in: workdir.path) == "")
        let before = try await git("ls-files", "--debug", in: workdir.path)
        let index = try await sh("git rev-parse --git-path index", in: workdir.path).split(separator: "\n")[0]
        let content = try Data(contentsOf: URL(fileURLWithPath: String(index)))
        #expect(content.range(of: Data("TREE".utf8)) != nil)
        // A refresh that re-reads every file finds the same stat data, so the first one was right.
        try await sh("git update-index --really-refresh", in: workdir.path)
        #expect(try await git("ls-files", "--debug", in: workdir.path) == before)
        let tree = try await git("write-tree", in: workdir.path)
        #expect(tree == (try await git("rev-parse", "HEAD^{tree}", in: workdir.path)))
        try await git("fsck", "--cache", "--strict", in: workdir.path)
    }

    @Test func `status says what git says`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await sh(
            """
            echo changed >README.md; echo staged >-dash.bat; git add -- -dash.bat; echo again >>-dash.bat
            rm zero; git rm -q --cached empty; chmod -x bin/run; git mv version.id moved.id
            mkdir -p 'new/with	tab' build; echo x >'new/with	tab/a b'; echo x >build/out; echo x >x.log
            printf x >"$(printf 'n\\377')"; rm link; echo now-a-file >link; rm -r sub/deep; echo x >sub/deep
            """, in: repository.path)
        try await expectSameStatus(in: repository.path)
    }

    @Test func `an unresolved merge is seen`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f"), TestFile("g")])
        try await sh(
            """
            git checkout -q -b other; echo b >f; git rm -q g; git commit -qam b; git checkout -q main
            echo a >f; echo a >g; git commit -qam a; git merge other >/dev/null || true
            """, in: repository.path)
        let status = try Repository(gitDirectory: "\(repository.path)/.git").status()
        #expect(Set(status.filter(\.isConflicted).map { String(decoding: $0.path, as: UTF8.self) }) == ["f", "g"])
    }

    @Test func `a workdir that is gone still shows what was staged`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f"), TestFile("g")])
        try await sh("echo s >f; git add f; rm g", in: repository.path)
        let status = try Repository(gitDirectory: "\(repository.path)/.git").status(indexOnly: true)
        #expect(status.map { String(decoding: $0.path, as: UTF8.self) } == ["f"])
        #expect(status.map(\.isStaged) == [true])
    }

    @Test func `hidden entries and submodules are named`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f"), TestFile("g"), TestFile("h")])
        try await sh(
            """
            git update-index --assume-unchanged f; git update-index --skip-worktree g
            git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub
            """, in: repository.path)
        let flags = try Repository(gitDirectory: "\(repository.path)/.git").indexFlags()
        #expect(flags.hidden.map { String(decoding: $0.path, as: UTF8.self) } == ["f", "g"])
        #expect(flags.hidden.map(\.mayBeAbsent) == [false, true])
        #expect(flags.submodules.map { String(decoding: $0.path, as: UTF8.self) } == ["sub"])
    }

    @Test func `status writes nothing`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await sh("echo changed >README.md; touch -d 2001-01-01 crlf.bat", in: repository.path)
        let before = try await sh(
            "find .git -type f | sort | xargs sha1sum; stat -c %y .git/index", in: repository.path)
        _ = try Repository(gitDirectory: "\(repository.path)/.git").status()
        #expect(
            try await sh("find .git -type f | sort | xargs sha1sum; stat -c %y .git/index", in: repository.path)
                == before)
    }
}

/// Compares ``Git/Repository/status(indexOnly:)`` with `git status`, path by path.
func expectSameStatus(in directory: String, _ context: String = "") async throws {
    let output = try await bytes("git status --porcelain=v2 -z --untracked-files=all --no-renames", in: directory)
    var expected: [String: String] = [:]
    for record in output.split(separator: 0) {
        let fields = record.split(separator: 32, maxSplits: record.first == UInt8(ascii: "?") ? 1 : 8)
        let path = fields.last!.map { String($0, radix: 16) }.joined(separator: " ")
        expected[path] =
            record.first == UInt8(ascii: "?")
            ? "untracked"
            : "\(fields[1].first == 46 ? "" : "staged")\(fields[1].last == 46 ? "" : "modified")"
    }
    var found: [String: String] = [:]
    for entry in try Repository(gitDirectory: "\(directory)/.git").status() where !entry.isIgnored {
        let path = entry.path.map { String($0, radix: 16) }.joined(separator: " ")
        found[path] =
            entry.isUntracked && !entry.isStaged
            ? "untracked"
            : "\(entry.isStaged ? "staged" : "")\(entry.isModified || entry.isUntracked ? "modified" : "")"
    }
    for path in Set(found.keys).union(expected.keys) {
        #expect(found[path] == expected[path], "\(path) \(context)")
    }
}

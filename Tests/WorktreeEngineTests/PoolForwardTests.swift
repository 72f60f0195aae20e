import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// A slot follows its base by the difference of the trees, and is then as git would have made it.
@Suite struct PoolForwardTests {
    private static let files = [
        TestFile("README.md", "hello\n"), TestFile("zero", ""), TestFile("run", "#!/bin/sh\n", .executable),
        TestFile("link", "README.md", .link), TestFile("dirlink", "a", .link), TestFile("a/b/c/deep.txt"),
        TestFile("a/b.txt"), TestFile("a-b/x"), TestFile("dir/one"), TestFile("dir/two"), TestFile("dir/sub/three"),
        TestFile("ünï/ø.txt"), TestFile("with space/and\ttab"), TestFile("keep/1"), TestFile("keep/2"),
    ]

    static let changes = [
        "nothing": "true",
        "content": "echo other > README.md; echo more >> a/b/c/deep.txt",
        "same size": "printf 'HELLO\\n' > README.md",
        "rename": "git mv README.md a/b/readme; git mv 'with space' plain",
        "modes": "chmod +x README.md; chmod -x run",
        "gone": "git rm -rq dir a/b; rm 'ünï/ø.txt'",
        "all but one": "git rm -rq . ; echo x > only",
        "new": "mkdir -p n/e/w; echo x > n/e/w/file; echo y > a/b/c/beside; echo z > 0first",
        "file to directory":
            "rm README.md; mkdir -p README.md/in; echo x > README.md/in/x; rm zero; mkdir zero; echo > zero/a",
        "directory to file": "rm -r a dir/sub; echo file > a; echo file > dir/sub",
        "links": "ln -sfn zero link; rm dirlink; echo file > dirlink; rm run; ln -s README.md run",
        "directory to link": "rm -r a; ln -s dir a",
        "link to directory": "rm dirlink; mkdir dirlink; echo x > dirlink/x",
        "case": "git mv README.md readme.MD",
        "prefixes": "echo > a.b; echo > a0; mkdir ab; echo > ab/c; rm a-b/x; echo > a-b/y; echo > a-",
        "submodule": "git update-index --add --cacheinfo 160000,$HEAD,mod/ule",
        "directory to submodule": "git rm -rq dir; git update-index --add --cacheinfo 160000,$HEAD,dir",
        "attributes": "echo '*.txt text' > .gitattributes",
    ]

    /// Commits what a script does. A submodule has no directory, which `git add` would take for its removal.
    private func commit(_ script: String, _ fixture: PoolFixture) async throws {
        let add = script.contains("160000") ? "true" : "git add -A ."
        try await shell(
            "\(script)\n\(add)\ngit commit -q -m change --allow-empty", in: fixture.repository.path,
            ["HEAD": try await fixture.repository.head()])
    }

    @Test(arguments: Array(changes.keys.sorted()), [true, false])
    func `a claim brings a slot forward`(_ name: String, _ isOwn: Bool) async throws {
        let fixture = try await PoolFixture(files: Self.files)
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        try await commit(Self.changes[name]!, fixture)
        let workdir = try await engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .pool)
        #expect(workdir.base == (try await fixture.repository.head()))
        try await fixture.expectGitsOwn(workdir)
        // And back, from what was brought forward before.
        try await engine.fillPool(repository: fixture.repository.path, size: 1)
        try await git("revert", "--no-edit", "HEAD", in: fixture.repository.path, expecting: nil)
        let back = try await engine.spawn(request(fixture.repository.path, issue: "local#2"))
        #expect(back.materializer == .pool)
        try await fixture.expectGitsOwn(back)
        #expect(fixture.slots == [])
        _ = await engine.finishTrash()
        #expect(try await fixture.leftovers() == [])
    }

    @Test(arguments: [true, false])
    func `a directory whose tree is empty is made by nobody`(_ isOwn: Bool) async throws {
        let fixture = try await PoolFixture(files: Self.files + [TestFile("only/one/file")])
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        try await shell(
            """
            T=$(git mktree </dev/null | xargs printf '040000 tree %s\\tone\\n' | git mktree)
            T=$(git ls-tree HEAD | sed "s/^040000 tree .*\tonly$/040000 tree $T\tonly/" | git mktree)
            git reset -q --hard $(git commit-tree -p HEAD -m empty $T)
            """, in: fixture.repository.path)
        let workdir = try await engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .pool)
        try await fixture.expectGitsOwn(workdir)
        #expect(try await engine.fillPool(repository: fixture.repository.path, size: 1).ready == 1)
    }

    @Test(arguments: [true, false])
    func `a fill brings stale slots forward instead of making new ones`(_ isOwn: Bool) async throws {
        let fixture = try await PoolFixture(size: 2, files: Self.files)
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        let before = fixture.slots
        try await commit(Self.changes["file to directory"]!, fixture)
        #expect(try await fixture.status().map { [$0.ready, $0.stale] } == [0, 2])
        #expect(try await engine.fillPool(repository: fixture.repository.path, size: 2).ready == 2)
        #expect(fixture.slots == before)
        for issue in ["local#1", "local#2"] {
            let workdir = try await engine.spawn(request(fixture.repository.path, issue: issue))
            #expect(workdir.materializer == .pool)
            try await fixture.expectGitsOwn(workdir)
        }
    }

    @Test(arguments: [true, false])
    func `a touched slot is not brought forward`(_ isOwn: Bool) async throws {
        let fixture = try await PoolFixture(files: Self.files)
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        try await shell("echo x > keep/1", in: fixture.slots[0])
        try await commit(Self.changes["content"]!, fixture)
        let workdir = try await engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .checkout)
        try await fixture.expectGitsOwn(workdir)
        #expect(fixture.slots == [])
    }

    @Test func `slots are not brought forward where attributes convert`() async throws {
        let fixture = try await PoolFixture()
        try await commit("echo '*.md text eol=crlf' >> .gitattributes", fixture)
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .checkout)
        try await fixture.expectGitsOwn(workdir)
        #expect(try await fixture.engine.fillPool(repository: fixture.repository.path, size: 1).ready == 1)
    }

    @Test func `a spawn from another revision leaves the slots to their own`() async throws {
        let fixture = try await PoolFixture(files: Self.files)
        let first = try await fixture.repository.head()
        try await commit(Self.changes["content"]!, fixture)
        try await fixture.engine.fillPool(repository: fixture.repository.path, size: 1)
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path, base: first))
        #expect(workdir.materializer == .checkout)
        #expect(try await fixture.status()?.ready == 1)
    }

    @Test func `a difference that is nearly everything is a checkout`() async throws {
        let fixture = try await PoolFixture(files: (0..<300).map { TestFile("f\($0)") })
        try await commit("for f in f*; do echo other > $f; done", fixture)
        #expect(try await fixture.engine.spawn(request(fixture.repository.path)).materializer == .checkout)
        #expect(fixture.slots == [])
    }
}

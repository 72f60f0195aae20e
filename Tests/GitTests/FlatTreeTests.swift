import Foundation
import Git
import TestSupport
import Testing

@Suite struct FlatTreeTests {
    @Test func `a tree is listed as git lists it, byte for byte`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await expectSameListing("HEAD", in: repository.path)
    }

    @Test func `names that are not UTF-8 keep their bytes`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tree = try await makeTree(
            #"100644 blob $B\t\377\376\000100755 blob $B\tcaf\351\000100644 blob $B\ttab\there\000"#,
            in: repository.path, options: "-z")
        try await expectSameListing(tree, in: repository.path)
    }

    @Test func `modes of old trees are read as git reads them`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        // 100664 and 100600 were written by early versions of git. See: git `object.h` (canon_mode)
        let tree = try await makeTree(
            #"100664 blob $B\ta\n100600 blob $B\tb\n100775 blob $B\tc\n100744 blob $B\td\n"#, in: repository.path)
        let flat = try Repository(gitDirectory: "\(repository.path)/.git").flatten(tree: try #require(ObjectID(tree)))
        #expect(flat.entries.map(\.mode) == [0o100644, 0o100644, 0o100755, 0o100755])
        #expect(flat.entries.map(\.isExecutable) == [false, false, true, true])
    }

    @Test(arguments: [1500, 2048, 2049, 25_000])
    func `a tree is flattened to the depth that git reads, and no deeper one crashes`(_ levels: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let path = String(repeating: "d/", count: levels) + "f"
        try write(
            TestFile(
                "import",
                "commit refs/heads/deep\ncommitter T <t@e> 1 +0000\ndata 1\nx\nM 644 inline \(path)\ndata 1\ny\n"),
            in: scratch.path)
        try await sh("git fast-import --quiet --force <../import", in: repository.path)
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        let tree = try handle.tree(ofCommit: handle.commit("deep"))
        guard levels <= FlatTree.deepest else {
            let error = #expect(throws: GitError.self) { try handle.flatten(tree: tree) }
            #expect(error?.message.contains("levels") == true)
            return
        }
        let flat = try handle.flatten(tree: tree)
        #expect(flat.entries.count == 1)
        #expect(flat.directories.count == levels + 1)
        #expect(flat.path(flat.entries[0]) == path)
    }

    @Test(arguments: [
        ("a b", nil), ("a a-b a.c a/f a0", "a/f"), ("a-b a/f a0", nil), ("a a-b a.c a0", nil), ("b a", "a"),
        ("a a", "a"), ("a a/f", "a"), ("a/f a/f", "a"), ("a/f a", "a"), ("a0 a/f", "a"), ("a a-b a/f", "a"),
    ])
    func `a path that git would have put elsewhere, or only once, is found`(_ names: String, _ found: String?)
        async throws
    {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let tree = try await literalTree(names.split(separator: " ").map(String.init), in: repository.path)
        let flat = try Repository(gitDirectory: "\(repository.path)/.git").flatten(tree: try #require(ObjectID(tree)))
        #expect((flat.unorderedPath != nil) == (found != nil), "\(flat.unorderedPath ?? "none")")
        let verdict = try await sh(
            "git fsck 2>&1 | grep -cE 'treeNotSorted|duplicateEntries' || true", in: repository.path)
        #expect((verdict != "0\n") == (found != nil), "\(verdict)")
    }

    @Test func `the empty tree has one directory and no entry`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tree = try await makeTree("", in: repository.path)
        let flat = try Repository(gitDirectory: "\(repository.path)/.git").flatten(tree: try #require(ObjectID(tree)))
        #expect(flat.entries.isEmpty)
        #expect(flat.directories.count == 1)
    }

    @Test(arguments: [
        ".git", ".GIT", ".git.", ".git ", ".git. .", ".GIT.", "git~1", "GIT~1", "git~1 ", ".git:",
        ".git::$INDEX_ALLOCATION", "git~1:x", #".git\\x"#, #"git~1\\x"#, "..", ".", ".gitx", ".git~1", "git~2",
        ".gitmodules", ".GITMODULES", "gitmod~1", ".gitmodules.", ".gitattributes", ".git x", "git~11", "...", "..x",
        ".g",
        "g", "x.git", "a:b", "git ~1", #"a\\.git"#, #"a\\.git\\b"#, #"a\\b"#,
    ])
    func `a path is refused exactly when git refuses it`(name: String) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        for mode in ["100644 blob $B", "040000 tree $T", "120000 blob $B"] {
            let tree = try await makeTree("\(mode)\\t\(name)\\n", in: repository.path)
            let flat = try Repository(gitDirectory: "\(repository.path)/.git").flatten(
                tree: try #require(ObjectID(tree)))
            let verdict = try await sh(
                "GIT_INDEX_FILE=../index git read-tree \(tree) 2>/dev/null && echo accepted || echo refused",
                in: repository.path)
            #expect((flat.refusedPath != nil ? "refused\n" : "accepted\n") == verdict, "\(mode) \(name)")
        }
    }

    @Test func `a refused name is found at any depth`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let inner = try await makeTree(#"100644 blob $B\t.git\n"#, in: repository.path)
        let outer = try await makeTree("100644 blob $B\\ta\\n040000 tree \(inner)\\tsub\\n", in: repository.path)
        let flat = try Repository(gitDirectory: "\(repository.path)/.git").flatten(tree: try #require(ObjectID(outer)))
        #expect(flat.refusedPath == "sub/.git")
    }

    @Test(arguments: [
        "100644 a", #"100644 a\000short"#, #"1006x4 a\00012345678901234567890"#, #"100644 \00012345678901234567890"#,
        "100644", "9",
    ])
    func `a damaged tree is an error and no crash`(content: String) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let tree = try await sh(
            "printf '\(content)' | git hash-object -t tree -w --literally --stdin", in: repository.path)
        let id = try #require(ObjectID(String(tree.prefix(40))))
        #expect(throws: GitError.self) {
            try Repository(gitDirectory: "\(repository.path)/.git").flatten(tree: id)
        }
    }

    @Test func `a missing subtree is an error`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let tree = try await sh(
            "printf '040000 tree 1234567890123456789012345678901234567890\\tsub\\n' | git mktree --missing",
            in: repository.path)
        let id = try #require(ObjectID(String(tree.prefix(40))))
        #expect(throws: GitError.self) {
            try Repository(gitDirectory: "\(repository.path)/.git").flatten(tree: id)
        }
    }
}

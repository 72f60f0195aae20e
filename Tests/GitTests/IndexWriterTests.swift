import Foundation
import Git
import TestSupport
import Testing

@Suite struct IndexWriterTests {
    /// Writes the index of a tree to a file that git then uses.
    private func writeIndex(_ tree: String, to path: String, in repository: String) throws {
        let handle = try Repository(gitDirectory: "\(repository)/.git")
        let flat = try handle.flatten(tree: try #require(ObjectID(tree)))
        let file = flat.indexFile(stats: flat.entries.map { _ in FileStat() })
        try Data(file).write(to: URL(fileURLWithPath: path))
    }

    @Test func `git reads the entries that read-tree would have made`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        // Every length of a path modulo eight, an executable, a link, a submodule, and a path beyond the length field.
        let long = (0..<20).map { String(repeating: "\(UnicodeScalar(UInt8(97 + $0)))", count: 220) }.joined(
            separator: "/")
        try await sh(
            """
            for n in 1 22 333 4444 55555 666666 7777777 88888888; do echo $n >$n; done
            git add . && B=$(git hash-object -w --stdin </dev/null)
            git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module --cacheinfo 100644,$B,\(long)
            git commit -qm x
            """, in: repository.path)
        let tree = String(try await sh("git rev-parse HEAD^{tree}", in: repository.path).prefix(40))
        try writeIndex(tree, to: "\(scratch.path)/ours", in: repository.path)
        let expected = try await bytes("git ls-tree -rz HEAD | sed 's/ blob / /g; s/ commit / /g'", in: repository.path)
        let ours = try await bytes(
            "GIT_INDEX_FILE='\(scratch.path)/ours' git ls-files -sz | sed 's/ 0\\t/\\t/g'", in: repository.path)
        #expect(ours == expected)
        let isWhole = "export GIT_INDEX_FILE='\(scratch.path)/ours'; git fsck --strict 2>&1 | grep -i index || true"
        #expect(try await sh(isWhole, in: repository.path) == "")
    }

    @Test func `each directory's tree is in the cache-tree`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await repository.commit(
            [TestFile("a/b/c/one"), TestFile("a/b/d/two"), TestFile("a-b/three"), TestFile("z/four")], message: "deep")
        let tree = String(try await sh("git rev-parse HEAD^{tree}", in: repository.path).prefix(40))
        try writeIndex(tree, to: "\(scratch.path)/ours", in: repository.path)
        // write-tree takes every valid part of the cache-tree unseen: a wrong one gives a wrong tree.
        let change = "git update-index --add --cacheinfo 100644,$(git hash-object -w --stdin </dev/null),a/b/c/new"
        let writeTree = "git write-tree && \(change) && git write-tree"
        let ours = try await sh("export GIT_INDEX_FILE='\(scratch.path)/ours'; \(writeTree)", in: repository.path)
        let theirs = try await sh(
            "export GIT_INDEX_FILE='\(scratch.path)/theirs'; git read-tree HEAD; \(writeTree)", in: repository.path)
        #expect(ours == theirs)
        #expect(ours.hasPrefix(tree))
        try writeIndex(tree, to: "\(scratch.path)/fresh", in: repository.path)
        #expect(try IndexFile(path: "\(scratch.path)/fresh").rootTree == ObjectID(tree))
    }
}

import Foundation
import Git
import TestSupport
import Testing

@Suite struct ReferenceTests {
    @Test(arguments: [
        ("", false), ("0123456789abcdef0123456789abcdef01234567", true),
        ("0123456789ABCDEF0123456789abcdef01234567", true),
        ("0123456789abcdef0123456789abcdef0123456", false), ("0123456789abcdef0123456789abcdef012345678", false),
        ("g123456789abcdef0123456789abcdef01234567", false), ("0123456789abcdef0123456789abcdef0123456 ", false),
        ("é123456789abcdef0123456789abcdef0123456", false), ("-123456789abcdef0123456789abcdef01234567", false),
    ])
    func `an object id is 40 hexadecimal digits and nothing else`(text: String, isValid: Bool) {
        #expect((ObjectID(text) != nil) == isValid)
        if let id = ObjectID(text) { #expect(id.description == text.lowercased()) }
    }

    @Test func `a blob is named as git names it`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        for content in ["", "a", "a\nb\n", "\\0"] {
            let id = try await sh("printf '\(content)' | git hash-object --stdin", in: repository.path)
            #expect(
                ObjectID.ofBlob(try await bytes("printf '\(content)'", in: repository.path)).description + "\n" == id)
        }
    }

    @Test func `a reference is created once, with a reflog`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let head = try #require(ObjectID(try await repository.head()))
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        try handle.createReference("refs/heads/new", at: head, message: "made")
        #expect(try handle.target(of: "refs/heads/new") == head)
        #expect(try await git("reflog", "show", "--format=%gs", "new", in: repository.path) == "made\n")
        #expect(throws: GitError.self) { try handle.createReference("refs/heads/new", at: head, message: "again") }
        try await git("fsck", "--strict", in: repository.path)
    }

    @Test(arguments: [false, true])
    func `a taken name is refused as existing, and so is one above or below it`(packed: Bool) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let head = try #require(ObjectID(try await repository.head()))
        try await git("branch", "a/b", in: repository.path)
        try await git("branch", "c", in: repository.path)
        if packed { try await git("pack-refs", "--all", in: repository.path) }
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        let before = try await git("for-each-ref", in: repository.path)
        for name in ["a/b", "a", "a/b/c", "c", "c/d", "c/d/e"] {
            do {
                try handle.createReference("refs/heads/\(name)", at: head, message: "made")
                Issue.record("\(name) was created")
            } catch { #expect(error.exists, "\(name): \(error)") }
        }
        #expect(try await git("for-each-ref", in: repository.path) == before)
        try await git("branch", "c2", in: repository.path)
    }

    @Test func `of many handles that create one reference exactly one succeeds`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let head = try #require(ObjectID(try await repository.head()))
        let gitDir = "\(repository.path)/.git"
        for round in 0..<10 {
            let won = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        (try? Repository(gitDirectory: gitDir).createReference(
                            "refs/heads/r\(round)", at: head, message: "x"))
                            != nil
                    }
                }
                return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(won == 1)
        }
    }

    @Test(arguments: [false, true])
    func `a reference is deleted only where it is expected`(packed: Bool) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let first = try #require(ObjectID(try await repository.head()))
        try await git("branch", "work", in: repository.path)
        let second = try #require(ObjectID(try await repository.commit([TestFile("more")], message: "second")))
        try await git("branch", "--force", "work", "main", in: repository.path)
        if packed { try await git("pack-refs", "--all", in: repository.path) }
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        let log = try await git("reflog", "show", "work", in: repository.path)
        #expect(try !handle.deleteReference("refs/heads/work", ifAt: first))
        #expect(try handle.target(of: "refs/heads/work") == second)
        #expect(try await git("reflog", "show", "work", in: repository.path) == log)
        #expect(try handle.deleteReference("refs/heads/work", ifAt: second))
        #expect(try handle.target(of: "refs/heads/work") == nil)
        #expect(try await git("branch", "--list", "work", in: repository.path) == "")
        #expect(try !handle.deleteReference("refs/heads/work", ifAt: second))
        // No lock is left.
        try await git("branch", "work", in: repository.path)
        try await git("branch", "-D", "work", in: repository.path)
        #expect(try !handle.deleteReference("refs/heads/never", ifAt: second))
    }

    @Test func `HEAD is read as branch, unborn branch and commit`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let id = try #require(ObjectID(try await repository.head()))
        #expect(try Repository(gitDirectory: "\(repository.path)/.git").head() == .branch("main", id))
        try await git("checkout", "--quiet", "--detach", in: repository.path)
        #expect(try Repository(gitDirectory: "\(repository.path)/.git").head() == .detached(id))
        try await git("checkout", "--quiet", "--orphan", "new/one", in: repository.path)
        #expect(try Repository(gitDirectory: "\(repository.path)/.git").head() == .branch("new/one", nil))
    }

    @Test func `a dangling or broken reference does not end the listing`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let id = try #require(ObjectID(try await repository.head()))
        try await sh(
            "echo 'ref: refs/heads/gone' >.git/refs/heads/dangling; git tag -a -m t annotated; git tag light",
            in: repository.path)
        let found = try Repository(gitDirectory: "\(repository.path)/.git").references()
        #expect(found.map(\.name).sorted() == ["refs/heads/main", "refs/tags/annotated", "refs/tags/light"])
        #expect(found.first { $0.name == "refs/heads/main" }?.id == id)
        // An empty file, as a power failure leaves it.
        try await sh(": >.git/refs/heads/empty", in: repository.path)
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        #expect((try? handle.references())?.contains { $0.name == "refs/heads/main" } ?? true)
    }
}

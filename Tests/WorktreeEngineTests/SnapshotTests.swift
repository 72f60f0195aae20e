import Foundation
import Git
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite(.enabled(if: FilesystemImage.Kind.btrfs.canTry, "needs root and mkfs.btrfs"))
struct SnapshotTests {
    /// A repository and an engine on btrfs.
    private struct Place {
        let image: FilesystemImage
        let scratch: Scratch
        let repository: TestRepository
        let engine: Engine

        init() async throws {
            image = try await FilesystemImage(.btrfs)
            scratch = try Scratch(below: image.path)
            repository = try await scratch.repository()
            engine = try await scratch.engine()
        }

        func names(_ place: String) -> [String] {
            let path = "\(engine.configuration.state)/workdirs/.wtengine/\(place)"
            return ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
        }

        func subvolumes() async throws -> Int {
            try await sh("btrfs subvolume list . | wc -l | tr -d ' \\n'", in: image.path).split(separator: "\n").first
                .flatMap { Int($0) } ?? -1
        }
    }

    @Test func `every spawn of a tree is a snapshot of one template, and equals git's checkout`() async throws {
        let place = try await Place()
        let expected = try await gitsOwnCheckout(
            of: place.repository.head(), in: place.repository.path, scratch: place.scratch)
        for number in 1...3 {
            let workdir = try await place.engine.spawn(request(place.repository.path, issue: "local#\(number)"))
            #expect(workdir.materializer == .snapshot)
            #expect(try snapshot(workdir.path) == expected)
            try await expectClean(workdir.path)
            // What one run does, the next does not see.
            try await sh("echo changed >README.md; echo new >new; rm zero; chmod +x crlf.bat", in: workdir.path)
        }
        #expect(place.names("templates").count == 1)
        #expect(place.names("stage").isEmpty)
        #expect(try await place.subvolumes() == 4)
    }

    @Test func `spawns at once share the making of the template`() async throws {
        let place = try await Place()
        let workdirs = try await withThrowingTaskGroup(of: Workdir.self) { group in
            for number in 1...12 {
                group.addTask {
                    try await place.engine.spawn(request(place.repository.path, issue: "local#\(number)"))
                }
            }
            return try await group.reduce(into: [Workdir]()) { $0.append($1) }
        }
        #expect(workdirs.allSatisfy { $0.materializer == .snapshot })
        #expect(try await place.subvolumes() == 13)
        for workdir in workdirs { #expect(try await git("status", "--porcelain", "--ignored", in: workdir.path) == "") }
    }

    @Test func `a cleanup takes the subvolume away, with those that the worker made in it`() async throws {
        let place = try await Place()
        let workdir = try await place.engine.spawn(request(place.repository.path))
        try await sh("btrfs subvolume create sub/volume >/dev/null; echo x >sub/volume/file", in: workdir.path)
        let plan = try await place.engine.planCleanup(workdir.run)
        #expect(plan.risks.contains { $0.path.hasPrefix("sub/volume") }, "\(plan.risks)")
        _ = try await place.engine.cleanup(plan, discard: true)
        _ = await place.engine.finishTrash()
        #expect(place.names("trash").isEmpty)
        #expect(try await place.subvolumes() == 1, "the template only")
        #expect(try await place.engine.run(workdir.run).state == .removed)
    }

    @Test func `a subvolume that may not be destroyed is emptied file by file`() async throws {
        let place = try await Place()
        let top = try Directory(place.scratch.path)
        #expect(try Subvolume.make("volume", in: top))
        try await sh(
            "mkdir -p a/b/c d; echo x | tee a/b/c/f d/g >/dev/null; chmod 0555 a/b", in: "\(place.scratch.path)/volume")
        // The kernel destroys none that has another in it, which is what this process meets without the privilege.
        #expect(try Subvolume.make("inner", in: top.open("volume").open("d")))
        try Subvolume.setReadOnly(top.open("volume"))
        try TreeDeletion.delete("volume", in: top)
        #expect(try !top.contains("volume"))
    }

    @Test func `a template cannot be written, and one that was exchanged is not used`() async throws {
        let place = try await Place()
        _ = try await place.engine.spawn(request(place.repository.path, issue: "local#1"))
        let template = try #require(place.names("templates").first)
        let path = "\(place.engine.configuration.state)/workdirs/.wtengine/templates/\(template)"
        #expect(open("\(path)/files/README.md", O_WRONLY) == -1)
        #expect(errno == EROFS)
        try await sh("btrfs property set files ro false; echo evil >files/README.md; touch index", in: path)
        let workdir = try await place.engine.spawn(request(place.repository.path, issue: "local#2"))
        #expect(workdir.materializer == .snapshot)
        #expect(try String(contentsOfFile: "\(workdir.path)/README.md", encoding: .utf8) == "hello\n")
        _ = await place.engine.finishTrash()
        #expect(place.names("templates") == [template])
        #expect(place.names("trash").isEmpty)
    }

    @Test func `templates beyond the third of a repository go, the least recently used first`() async throws {
        let place = try await Place()
        var bases = [try await place.repository.head()]
        for number in 1...4 {
            bases.append(try await place.repository.commit([TestFile("file\(number)")], message: "\(number)"))
        }
        for (number, base) in bases.enumerated() {
            _ = try await place.engine.spawn(request(place.repository.path, issue: "local#\(number + 1)", base: base))
            try await Task.sleep(for: .milliseconds(20))
        }
        _ = await place.engine.finishTrash()
        #expect(place.names("templates").count == 3)
        // The last three are there still: no template is made for them.
        for (number, base) in bases.enumerated().suffix(3) {
            let before = place.names("templates")
            _ = try await place.engine.spawn(request(place.repository.path, issue: "local#1\(number)", base: base))
            #expect(place.names("templates") == before)
        }
    }

    @Test func `sweep takes the templates of a repository that is gone`() async throws {
        let place = try await Place()
        let workdir = try await place.engine.spawn(request(place.repository.path))
        _ = try await place.engine.cleanup(place.engine.planCleanup(workdir.run))
        #expect(place.names("templates").count == 1)
        try await sh("rm -rf '\(place.repository.path)'", in: place.scratch.path)
        _ = try await place.engine.sweep()
        _ = await place.engine.finishTrash()
        #expect(place.names("templates").isEmpty)
        #expect(try await place.subvolumes() == 0)
    }

    @Test func `draining drops the templates of the repository, or all, so that the root can be removed`() async throws
    {
        let place = try await Place()
        let other = try await place.scratch.repository("other")
        _ = try await place.engine.spawn(request(place.repository.path))
        _ = try await place.engine.spawn(request(other.path, issue: "local#2"))
        #expect(place.names("templates").count == 2)
        try await place.engine.drainPool(repository: other.path)
        #expect(await place.engine.finishTrash() == 0)
        #expect(place.names("templates").count == 1)
        // The next spawn makes one anew.
        let next = try await place.engine.spawn(request(other.path, issue: "local#3"))
        #expect(next.materializer == .snapshot)
        try await place.engine.drainPool()
        #expect(await place.engine.finishTrash() == 0)
        #expect(place.names("templates").isEmpty)
        try await sh("rm -r state", in: place.scratch.path)
    }

    @Test func `the identity of a workdir outlives a remount`() async throws {
        let place = try await Place()
        let workdir = try await place.engine.spawn(request(place.repository.path))
        let identity = try Directory(workdir.path).identity()
        try await sh("btrfs subvolume create other >/dev/null", in: place.scratch.path)
        #expect(identity != (try Directory("\(place.scratch.path)/other").identity()))
        // A second mount of the same filesystem gives its own device number.
        let second = try await Mount(of: place.image.path)
        let again = workdir.path.replacingOccurrences(of: place.image.path, with: second.path)
        #expect(try Directory(again).identity() == identity)
        #expect(try await place.engine.verify(workdir.run).isEmpty)
    }
}

@Suite struct NoSnapshotTests {
    @Test func `where there are no snapshots, asking for one is refused and nothing is left`() async throws {
        let scratch = try (try? Scratch(below: "/dev/shm")) ?? Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        try await expectRefused(
            request(repository.path, materializer: .snapshot), engine, code: .unsupported, mentions: "btrfs",
            repository: repository.path)
    }
}

import CLinux
import Foundation
import Git
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// What a checkout that ended just now would note of every directory below a workdir, for a proof to use.
func noteDirectories(of workdir: String, in file: String) async throws {
    // Until the clock of the kernel has moved on from the last change.
    try await Task.sleep(for: .milliseconds(50))
    let notary = try #require(try notary(at: workdir))
    let paths = try FileManager.default.subpathsOfDirectory(atPath: workdir)
    let notes = paths.compactMap { path -> DirectoryTimes.Note? in
        var value = stat()
        guard lstat("\(workdir)/\(path)", &value) == 0, value.st_mode & S_IFMT == S_IFDIR,
            let names = try? FileManager.default.contentsOfDirectory(atPath: "\(workdir)/\(path)")
        else { return nil }
        return notary.note(DirectoryTimes.Seen(value), count: names.count)
    }
    try Data(DirectoryTimes(notes).bytes).write(to: URL(fileURLWithPath: file))
}

extension DirectoryTimes {
    fileprivate func count(_ value: stat) -> Int? {
        var last = 0
        return count(value, near: &last)
    }
}

private func notary(at path: String) throws -> DirectoryTimes.Notary? {
    let directory = try Directory(path)
    // A descriptor does not keep its directory open.
    defer { _ = directory.descriptor }
    return DirectoryTimes.Notary(directory.descriptor)
}

@Suite struct DirectoryTimesTests {
    private func status(_ path: String) throws -> stat {
        var value = stat()
        try #require(lstat(path, &value) == 0)
        return value
    }

    /// Enough files that the clock of the kernel moves on while they are written.
    private static let many = (0..<1500).map { TestFile("d\($0 / 30)/e/f\($0)") }

    @Test func `a checkout notes its directories, and each of them as it is`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", Self.many)
        let engine = try await scratch.engine()
        for number in 1...3 {
            let workdir = try await engine.spawn(request(repository.path, issue: "local#\(number)"))
            let gitDir = try await git("rev-parse", "--absolute-git-dir", in: workdir.path)
                .trimmingCharacters(in: .newlines)
            let times = DirectoryTimes(in: gitDir)
            let noted = try (0..<50).flatMap { ["d\($0)", "d\($0)/e"] }.filter {
                guard let count = times.count(try status("\(workdir.path)/\($0)")) else { return false }
                #expect(count == ($0.hasSuffix("e") ? 30 : 1))
                return true
            }
            #expect(!noted.isEmpty)
            // The link to the admin entry came later.
            #expect(times.count(try status(workdir.path)) == nil)
            #expect(try await engine.planCleanup(workdir.run).risks.isEmpty)
        }
    }

    @Test func `slots, and workdirs made of them, have what was noted when the slot was filled`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", Self.many)
        let engine = try await scratch.engine { $0.refillsPools = false }
        try await engine.fillPool(repository: repository.path, size: 1)
        // What changes between the filling and the claim is not what was noted.
        try await repository.commit([TestFile("d7/new"), TestFile("d0/e/f0", "other\n")], message: "second")
        let workdir = try await engine.spawn(request(repository.path))
        #expect(workdir.materializer == .pool)
        let gitDir = try await git("rev-parse", "--absolute-git-dir", in: workdir.path)
            .trimmingCharacters(in: .newlines)
        let times = DirectoryTimes(in: gitDir)
        #expect(!times.isEmpty)
        #expect(times.count(try status("\(workdir.path)/d7")) == nil)
        #expect(try await engine.planCleanup(workdir.run).risks.isEmpty)
        try await sh("touch d7/more d3/more d3/e/more", in: workdir.path)
        #expect(
            try await engine.planCleanup(workdir.run).risks.map(\.path) == ["d3/e/more", "d3/more", "d7/more"])
    }

    /// It shows that the note is used: what is in it is false.
    @Test func `a noted directory is not listed`() async throws {
        let run = try await RunFixture()
        let gitDir = try await run.sh("git rev-parse --absolute-git-dir").trimmingCharacters(in: .newlines)
        let notes = "\(gitDir)/\(DirectoryTimes.fileName)"
        try await run.sh("touch sub/deep/er/new")
        let place = WorkingPlace(gitDir: gitDir, commonDir: "\(run.repository.path)/.git", workdir: run.path)
        try await noteDirectories(of: run.path, in: notes)
        #expect(try WorkingState.native(place, nil)?.extras?.count == 1)
        let times = DirectoryTimes(in: gitDir)
        let value = try status("\(run.path)/sub/deep/er")
        #expect(times.count(value) == 2)
        let notary = try #require(try notary(at: run.path))
        let lie = try #require(notary.note(DirectoryTimes.Seen(value), count: 1))
        try Data(DirectoryTimes([lie]).bytes).write(to: URL(fileURLWithPath: notes))
        #expect(try WorkingState.native(place, nil)?.extras?.isEmpty == true)
        try await run.sh("touch sub/deep/er/newer")
        #expect(try WorkingState.native(place, nil)?.extras?.count == 2)
    }

    @Test func `what was changed after the last tick of the clock is not noted, nor whole seconds`() throws {
        let scratch = try Scratch()
        let notary = try #require(try notary(at: scratch.path))
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        func note(_ seconds: Int, _ nanoseconds: Int) -> DirectoryTimes.Note? {
            var value = stat()
            value.st_ctim = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
            return notary.note(DirectoryTimes.Seen(value), count: 3)
        }
        #expect(note(now.tv_sec - 1, 5) != nil)
        #expect(note(now.tv_sec - 1, 0) == nil)
        #expect(note(now.tv_sec, now.tv_nsec) == nil)
        #expect(note(now.tv_sec + 60, 5) == nil)
    }

    @Test func `a filesystem that is not known notes nothing`() throws {
        #expect(try notary(at: "/proc/sys") == nil)
    }

    @Test(arguments: [[], [1, 2, 3], Array(repeating: UInt8(7), count: 8), Array(repeating: UInt8(7), count: 8 + 24)])
    func `a file of something else notes nothing`(_ bytes: [UInt8]) throws {
        let scratch = try Scratch()
        try Data(bytes).write(to: URL(fileURLWithPath: "\(scratch.path)/\(DirectoryTimes.fileName)"))
        #expect(DirectoryTimes(in: scratch.path).isEmpty)
        let cut = DirectoryTimes([.init(inode: 1, seconds: 2, nanoseconds: 3, count: 4, size: 5)]).bytes.dropLast()
        try Data(cut).write(to: URL(fileURLWithPath: "\(scratch.path)/\(DirectoryTimes.fileName)"))
        #expect(DirectoryTimes(in: scratch.path).isEmpty)
    }

    @Test func `what is written is read again`() throws {
        let scratch = try Scratch()
        let notes = [5, 3, 9].map {
            DirectoryTimes.Note(inode: $0, seconds: 2, nanoseconds: 3, count: UInt32($0), size: 60)
        }
        try Data(DirectoryTimes(notes).bytes).write(
            to: URL(fileURLWithPath: "\(scratch.path)/\(DirectoryTimes.fileName)"))
        let times = DirectoryTimes(in: scratch.path)
        var value = stat()
        value.st_ctim = timespec(tv_sec: 2, tv_nsec: 3)
        value.st_size = 60
        // In the order of the notes, in another, and past their end: where the last was found decides nothing.
        var last = 0
        for inode in [3, 5, 9, 10, 9, 5, 3, 4, 9, 1, 3] {
            value.st_ino = ino_t(inode)
            let expected = [3, 5, 9].contains(inode) ? inode : nil
            #expect(times.count(value) == expected)
            #expect(times.count(value, near: &last) == expected)
        }
        value.st_ino = 4
        #expect(times.count(value) == nil)
        value.st_ino = 5
        value.st_ctim.tv_nsec = 4
        #expect(times.count(value) == nil)
        value.st_ctim.tv_nsec = 3
        #expect(times.count(value) == 5)
        value.st_size = 80
        #expect(times.count(value) == nil)
        // After a crash a filesystem may put names back without another time.
        #expect(DirectoryTimes(in: scratch.path, boot: "another").isEmpty)
    }
}

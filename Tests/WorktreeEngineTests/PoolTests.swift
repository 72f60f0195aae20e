import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// A claim gives what a checkout gives; anything in the way of that is thrown away or leads to a checkout.
@Suite struct PoolTests {
    @Test(arguments: [true, false])
    func `a claimed workdir is what git would have made, whoever filled the slot`(_ isOwn: Bool) async throws {
        let fixture = try await PoolFixture(size: 2)
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        #expect(try await fixture.status()?.ready == 2)
        let first = try await engine.spawn(request(fixture.repository.path))
        let second = try await engine.spawn(request(fixture.repository.path, issue: "local#2", branch: .detached))
        let third = try await engine.spawn(request(fixture.repository.path, issue: "local#3"))
        #expect([first, second, third].map(\.materializer) == [.pool, .pool, .checkout])
        for workdir in [first, second, third] { try await fixture.expectGitsOwn(workdir) }
        #expect(try await fixture.engine.run(first.run).materializer == .pool)
        #expect(fixture.slots == [])
        #expect(try await fixture.leftovers() == [])
        #expect(try await git("status", "--porcelain", in: fixture.repository.path) == "")
    }

    @Test func `the index of a claimed workdir needs no refresh`() async throws {
        let fixture = try await PoolFixture()
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path, materializer: .pool))
        let index = try await git("rev-parse", "--git-path", "index", in: workdir.path).split(separator: "\n")[0]
        let before = try Data(contentsOf: URL(fileURLWithPath: String(index)))
        try await git("status", in: workdir.path)
        #expect(try Data(contentsOf: URL(fileURLWithPath: String(index))) == before)
    }

    @Test func `a forced claim of an empty pool is refused with the command that fills it`() async throws {
        let fixture = try await PoolFixture(size: 0)
        try await expectRefused(
            request(fixture.repository.path, materializer: .pool), fixture.engine, code: .noSlot,
            mentions: "wtengine pool fill --repo \(fixture.repository.path)", repository: fixture.repository.path)
    }

    @Test func `a forced checkout leaves the slots alone`() async throws {
        let fixture = try await PoolFixture()
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path, materializer: .checkout))
        #expect(workdir.materializer == .checkout)
        #expect(try await fixture.status()?.ready == 1)
    }

    static let touches = [
        "echo more >> README.md", "echo new > new.txt", "echo new > sub/deep/new.txt", "rm zero", "chmod +x README.md",
        "mkdir another", "ln -sfn other link", "touch README.md", "chmod 700 sub/deep", "mv sub/deep sub/deeper",
        "rm README.md; echo hello > README.md",
        "git init -q .", "rm -r sub; ln -s / sub",
    ]

    @Test(arguments: touches, [true, false])
    func `a slot that was touched is thrown away`(_ touch: String, _ isOwn: Bool) async throws {
        let fixture = try await PoolFixture()
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        try await shell(touch, in: fixture.slots[0])
        let workdir = try await engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .checkout)
        try await fixture.expectGitsOwn(workdir)
        #expect(fixture.slots == [])
        _ = await engine.finishTrash()
        #expect(try await fixture.leftovers() == [])
    }

    @Test(arguments: [true, false])
    func `a slot with another index or another directory is thrown away`(_ isOwn: Bool) async throws {
        for damage in [
            "echo x >> $INDEX", "cp $INDEX $INDEX.new; mv $INDEX.new $INDEX", "rm $INDEX",
            "cp -a $SLOT $SLOT.new; rm -r $SLOT; mv $SLOT.new $SLOT",
        ] {
            let fixture = try await PoolFixture()
            let engine = isOwn ? fixture.engine : try await fixture.stranger()
            let slot = fixture.slots[0]
            let index = "\(fixture.repository.path)/.git/wtengine/pool-\((slot as NSString).lastPathComponent)/index"
            try await shell(damage, in: "/", ["INDEX": index, "SLOT": slot])
            let workdir = try await engine.spawn(request(fixture.repository.path))
            #expect(workdir.materializer == .checkout, "\(damage)")
            try await fixture.expectGitsOwn(workdir)
            _ = await engine.finishTrash()
            #expect(fixture.slots == [], "\(damage)")
            #expect(try await fixture.leftovers() == [], "\(damage)")
        }
    }

    /// inotify tells who watches; these are for whoever does not.
    @Test(arguments: [
        "find . -type d -exec chmod 777 {} +", "chmod 777 .", "chmod 700 .", "chmod g+s sub", "chown 65534 sub/deep",
        "chgrp 65534 .", "find . -type d -exec chown 65534 {} +",
    ])
    func `a slot whose directories have another mode or owner is thrown away by whoever did not watch it`(
        _ touch: String
    ) async throws {
        guard geteuid() == 0 || touch.hasPrefix("chmod") || touch.contains("exec chmod") else { return }
        let fixture = try await PoolFixture()
        let engine = try await fixture.stranger()
        try await shell(touch, in: fixture.slots[0])
        let workdir = try await engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .checkout)
        try await fixture.expectGitsOwn(workdir)
        #expect(fixture.slots == [])
    }

    @Test(arguments: ["ln -s / $SLOT", "echo > $SLOT", "mkfifo $SLOT"], [true, false])
    func `what stands in place of a slot is thrown away, and the next slot serves`(
        _ replacement: String, _ isOwn: Bool
    ) async throws {
        let fixture = try await PoolFixture(size: 2)
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        // Which comes first is chance: the second time there is no other.
        for number in 1...2 {
            try await shell("rm -r $SLOT; \(replacement)", in: "/", ["SLOT": fixture.slots[0]])
            let workdir = try await engine.spawn(request(fixture.repository.path, issue: "local#\(number)"))
            try await fixture.expectGitsOwn(workdir)
            if number == 1, fixture.slots.count == 1 { continue }
            try await engine.fillPool(repository: fixture.repository.path, size: 2)
        }
        try await shell("rm -r $SLOT; \(replacement)", in: "/", ["SLOT": fixture.slots[0]])
        #expect(try await engine.fillPool(repository: fixture.repository.path, size: 2).ready == 2)
        #expect(try await engine.drainPool() == 2)
        _ = await engine.finishTrash()
        #expect(try await fixture.leftovers() == [])
    }

    @Test(.enabled(if: Mount.canTry, "needs root"), arguments: [true, false])
    func `a slot that cannot be moved is left, and others serve`(_ isOwn: Bool) async throws {
        let fixture = try await PoolFixture(size: 2)
        let engine = isOwn ? fixture.engine : try await fixture.stranger()
        let slot = fixture.slots[0]
        try await run(["mount", "--bind", slot, slot], in: "/")
        defer { umount2(slot, CInt(MNT_DETACH)) }
        let first = try await engine.spawn(request(fixture.repository.path))
        #expect(first.materializer == .pool)
        let second = try await engine.spawn(request(fixture.repository.path, issue: "local#2"))
        #expect(second.materializer == .checkout)
        try await fixture.expectGitsOwn(first)
        try await engine.fillPool(repository: fixture.repository.path, size: 1)
        _ = try await engine.sweep()
        _ = try await engine.recover()
        let third = try await engine.spawn(request(fixture.repository.path, issue: "local#3"))
        try await fixture.expectGitsOwn(third)
        do { try await engine.drainPool() } catch { #expect(error.message.contains("cannot be moved away")) }
        #expect(fixture.slots == [slot])
        umount2(slot, CInt(MNT_DETACH))
        try await engine.drainPool()
        #expect(fixture.slots == [])
    }

    @Test func `reading a slot does not touch it`() async throws {
        let fixture = try await PoolFixture()
        try await shell("find . -type f -exec cat {} + > /dev/null; ls -lR > /dev/null", in: fixture.slots[0])
        #expect(try await fixture.engine.spawn(request(fixture.repository.path)).materializer == .pool)
    }

    @Test func `a slot that was filled under other settings is not handed out`() async throws {
        let fixture = try await PoolFixture()
        try await git("config", "core.autocrlf", "true", in: fixture.repository.path)
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .checkout)
        try await fixture.expectGitsOwn(workdir)
        #expect(try await fixture.status().map { [$0.ready, $0.stale] } == [0, 1])
        try await fixture.engine.fillPool(repository: fixture.repository.path, size: 1)
        let second = try await fixture.engine.spawn(request(fixture.repository.path, issue: "local#2"))
        #expect(second.materializer == .pool)
        try await fixture.expectGitsOwn(second)
    }

    @Test func `slots are for their owner only`() async throws {
        let fixture = try await PoolFixture()
        let top = "\(fixture.scratch.path)/state/workdirs/.wtengine"
        for path in [top, "\(top)/pool", (fixture.slots[0] as NSString).deletingLastPathComponent] {
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o700, "\(path)")
        }
    }

    @Test func `concurrent spawns of several engines never share a slot`() async throws {
        let fixture = try await PoolFixture(size: 4)
        let engines = [fixture.engine, try await fixture.stranger(), try await fixture.stranger()]
        let repository = fixture.repository.path
        let made = try await withThrowingTaskGroup(of: Workdir.self) { group in
            for number in 1...9 {
                group.addTask { try await engines[number % 3].spawn(request(repository, issue: "local#\(number)")) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(made.map(\.path)).count == 9)
        #expect(made.count { $0.materializer == .pool } <= 4)
        for workdir in made { try await fixture.expectGitsOwn(workdir) }
    }

    @Test func `a pool follows its size, and zero forgets it`() async throws {
        let fixture = try await PoolFixture(size: 3)
        #expect(fixture.slots.count == 3)
        let status = try #require(try await fixture.status())
        #expect(status.repository == fixture.repository.path && status.base == "HEAD" && status.size == 3)
        #expect(status.commit == (try await fixture.repository.head()))
        #expect(try await fixture.engine.fillPool(repository: fixture.repository.path, size: 1).ready == 1)
        #expect(fixture.slots.count == 1)
        #expect(try await fixture.engine.fillPool(repository: fixture.repository.path, size: 0).ready == 0)
        #expect(try await fixture.engine.poolStatus() == [])
        #expect(try await fixture.leftovers() == [])
        let top = "\(fixture.scratch.path)/state/workdirs/.wtengine/pool"
        #expect(try FileManager.default.contentsOfDirectory(atPath: top) == [])
    }

    @Test func `draining one repository leaves the slots of another`() async throws {
        let fixture = try await PoolFixture(size: 2)
        let other = try await fixture.scratch.repository("other")
        try await fixture.engine.fillPool(repository: other.path, base: "main", size: 1)
        #expect(try await fixture.engine.drainPool(repository: fixture.repository.path) == 2)
        #expect(try await fixture.engine.poolStatus().map(\.repository) == [other.path])
        #expect(try await fixture.engine.drainPool() == 1)
        #expect(try await fixture.engine.poolStatus() == [])
    }

    @Test func `a fill that takes the disk below its reserve throws the slot away`() async throws {
        let fixture = try await PoolFixture(size: 0) { $0.diskReserve = .max }
        #expect(
            try await code { try await fixture.engine.fillPool(repository: fixture.repository.path, size: 1) } == .disk)
        #expect(fixture.slots == [])
        #expect(try await fixture.leftovers() == [])
    }

    @Test func `a repository that only git serves has no pool`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await repository.refuseLibgit2()
        let engine = try await scratch.engine()
        #expect(try await code { try await engine.fillPool(repository: repository.path, size: 1) } == .unsupported)
        try await expectRefused(
            request(repository.path, materializer: .pool), engine, code: .unsupported, repository: repository.path)
    }

    @Test func `a spawn from another revision of the same tree takes the slot too`() async throws {
        let fixture = try await PoolFixture()
        let first = try await fixture.repository.head()
        try await fixture.repository.commit([], message: "empty")
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path, base: "main"))
        #expect(workdir.materializer == .pool && workdir.base != first)
        try await fixture.expectGitsOwn(workdir)
    }
}

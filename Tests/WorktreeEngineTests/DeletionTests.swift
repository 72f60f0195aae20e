import Foundation
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct DeletionTests {
    /// What may stand in an ignored directory and must go, whatever it is called and however it is protected.
    @Test(arguments: [
        ("read-only directories", "mkdir -p a/b/c; echo x > a/b/c/f; chmod 0000 a/b/c; chmod 0555 a/b a"),
        ("5,000 levels", "import os\nfor i in range(5000):\n os.mkdir('d'); os.chdir('d')\nopen('f','w').close()"),
        (
            "long names",
            "import os\nfor i in range(20):\n os.mkdir('n'*255); os.chdir('n'*255)\n open('f'*255,'w').close()"
        ),
        (
            "names that are not text",
            "import os\nos.makedirs(b'\\xff\\xfe/\\n\\xff')\nopen(b'\\xff\\xfe/\\n\\xff/\\x80','w').close()\nos.mkdir(b'\\xfd')\n"
                + "open(b'\\xfd/x','w').close()\nos.chmod(b'\\xfd',0o555)\nos.chmod(b'\\xff\\xfe/\\n\\xff',0)"
        ),
        ("special files", "mkfifo pipe; ln -s / root; ln -s loop loop; ln -s ../../../../.. up"),
        ("5,000 files", "for i in $(seq 5000); do : > $i; done"),
        ("names like those of a deletion", "mkdir -p x.1/x.2 x.2/x.1; echo x > x.1/x.2/x.3"),
    ])
    func `whatever stands in an ignored directory goes`(_ name: String, _ script: String) async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        try await run.sh("mkdir -p build; ln -s $ROOT/canary build/canary; cp README.md build/")
        let isPython = script.hasPrefix("import")
        try await TestSupport.run(
            [isPython ? "python3" : "sh", isPython ? "-c" : "-ec", script], in: "\(run.path)/build")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.risks.isEmpty && plan.ignored == ["build/"])
        _ = try await run.engine.cleanup(plan)
        #expect(await run.engine.finishTrash() == 0)
        let row = try await run.engine.run(run.key)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(row.root)/.wtengine/trash").isEmpty)
        #expect(canary.isUntouched)
    }

    @Test func `what comes into a directory while it is emptied goes as well`() async throws {
        let scratch = try Scratch()
        try await shell("mkdir -p in/x/a/b/c", in: scratch.path)
        let calls = Atomic<Int>(0)
        // Called for x, a, b and c in turn: each has been listed when the next one's turn comes.
        try TreeDeletion.delete("x", in: Directory("\(scratch.path)/in")) {
            let parents = ["x", "x/a", "x/a/b"]
            let call = calls.add(1, ordering: .relaxed).oldValue
            guard parents.indices.contains(call - 1) else { return }
            _ = FileManager.default.createFile(atPath: "\(scratch.path)/in/\(parents[call - 1])/late", contents: nil)
        }
        #expect(calls.load(ordering: .relaxed) > 4)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(scratch.path)/in").isEmpty)
    }

    /// It can be neither opened nor moved.
    @Test(arguments: [1, 4])
    func `an empty directory of another owner is no obstacle`(_ threads: Int) async throws {
        guard getuid() == 0 else { return }  // nobody else can make one
        let scratch = try Scratch()
        try await shell(
            "chmod 755 .; mkdir -p in/x/a/b; touch in/x/f in/x/a/f; chown -R 65534 in; mkdir in/x/own in/x/a/closed "
                + "in/x/a/b/fixed; chmod 700 in/x/a/closed; chmod 555 in/x/a/b/fixed", in: scratch.path)
        // The rights of the calling thread, and of those that it starts, alone. See: man 2 setfsuid
        typealias SetUser = @convention(c) (uid_t) -> CInt
        let setUser = unsafeBitCast(try #require(dlsym(nil, "setfsuid")), to: SetUser.self)
        let failure: String? = await withCheckedContinuation { continuation in
            Thread {
                _ = setUser(65534)
                do {
                    try TreeDeletion.delete("x", in: Directory("\(scratch.path)/in"), threads: threads)
                    continuation.resume(returning: nil)
                } catch { continuation.resume(returning: "\(error)") }
            }.start()
        }
        #expect(failure == nil)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(scratch.path)/in").isEmpty)
    }

    @Test func `hard links keep their content, mode and owner elsewhere`() async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        try await run.sh(
            "mkdir -p build/in; ln $ROOT/canary/file build/in/a; ln $ROOT/canary/deep/er/x build/in/b; "
                + "chmod 400 $ROOT/canary/file; chmod 500 build/in")
        var before = stat()
        stat("\(canary.path)/file", &before)
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        #expect(await run.engine.finishTrash() == 0)
        var after = stat()
        stat("\(canary.path)/file", &after)
        #expect(before.st_mode == after.st_mode && before.st_ino == after.st_ino && after.st_nlink == 1)
        try await shell("chmod 644 canary/file", in: run.scratch.path)
        #expect(canary.isUntouched)
    }

    @Test(arguments: ["mount --bind $ROOT/canary build/mnt", "mount -t tmpfs none build/mnt; echo x > build/mnt/x"])
    func `a mount inside the workdir keeps it`(_ mount: String) async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        let plan = try await run.engine.planCleanup(run.key)
        try await run.sh("mkdir -p build/mnt")
        do { try await run.sh(mount) } catch { return }  // not permitted here
        defer { umount2("\(run.path)/build/mnt", Int32(MNT_DETACH)) }
        #expect(try await code { _ = try await run.engine.planCleanup(run.key) } == .inUse)
        #expect(try await code { _ = try await run.engine.cleanup(plan, discard: true) } == .inUse)
        #expect(try await run.engine.run(run.key).state == .ready)
        #expect(FileManager.default.fileExists(atPath: "\(run.path)/README.md"))
        #expect(canary.isUntouched)
        try await run.sh("umount build/mnt")
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        #expect(await run.engine.finishTrash() == 0)
        #expect(canary.isUntouched)
    }

    @Test func `the mode of what is mounted in the trash stays as it is`() async throws {
        let scratch = try Scratch()
        do {
            try await shell(
                "mkdir -p canary trash/left/mnt; chmod 500 canary; mount --bind canary trash/left/mnt", in: scratch.path
            )
        } catch { return }  // not permitted here
        defer { umount2("\(scratch.path)/trash/left/mnt", Int32(MNT_DETACH)) }
        #expect(throws: SystemError.self) {
            try TreeDeletion.delete("left", in: try Directory("\(scratch.path)/trash"))
        }
        var value = stat()
        #expect(stat("\(scratch.path)/canary", &value) == 0 && value.st_mode & 0o777 == 0o500)
    }

    /// A subvolume that holds another is not removed at once, and no directory is moved out of it.
    @Test(.enabled(if: FilesystemImage.Kind.btrfs.canTry, "needs root and mkfs.btrfs"))
    func `the deletion of a subvolume with another inside goes on where one was killed`() async throws {
        let image = try await FilesystemImage(.btrfs)
        let deep = (1...9).map { "\($0)" }.joined(separator: "/")
        try await shell(
            """
            btrfs -q subvolume create tree
            mkdir -p tree/\(deep)/more/and/more
            for number in 1 2 3 4 5 6 7 8 9; do
                mkdir -p tree/1/2/3/4/5/6/7/tree.$number/x
                echo x > tree/1/2/3/4/5/6/7/tree.$number/file
            done
            echo x > tree/\(deep)/more/file
            btrfs -q subvolume create tree/1/inner
            echo x > tree/1/inner/file
            mkdir -p beside tree.d
            """, in: image.path)
        try TreeDeletion.delete("tree", in: try Directory(image.path))
        #expect(try FileManager.default.contentsOfDirectory(atPath: image.path).sorted() == ["beside", "tree.d"])
    }

    @Test func `a mount that appears in the trash stops the deletion there`() async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        let root = try await run.engine.run(run.key).root
        let place = "\(root)/.wtengine/trash/left/mnt"
        do {
            try await shell(
                "mkdir -p \(place); echo x > \(place)/../file; mount --bind canary \(place)", in: run.scratch.path)
        } catch { return }
        defer { umount2(place, Int32(MNT_DETACH)) }
        let report = try await run.engine.sweep()
        #expect(report.trashLeft.count == 1)
        #expect(canary.isUntouched)
        try await shell("umount \(place) || umount \(root)/.wtengine/trash/*", in: run.scratch.path)
        #expect(try await run.engine.sweep().trashLeft.isEmpty)
        #expect(canary.isUntouched)
    }

    @Test func `an immutable file is reported, and nothing else is lost`() async throws {
        let run = try await RunFixture()
        let sibling = try await run.sibling()
        try await run.sh("mkdir -p build; echo x > build/fixed")
        do { try await run.sh("chattr +i build/fixed") } catch { return }  // not supported here
        let row = try await run.engine.run(run.key)
        let trash = "\(row.root)/.wtengine/trash"
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        let left = await run.engine.finishTrash()
        let swept = try await run.engine.sweep().trashLeft
        try await shell("find . -name fixed -exec chattr -i {} +", in: trash)
        #expect(left == 1)
        #expect(!swept.isEmpty && swept.allSatisfy { $0.path.hasPrefix(trash) })
        #expect(try await run.engine.verify(sibling.run) == [])
        #expect(try await run.engine.sweep().trashLeft.isEmpty)
        #expect(try FileManager.default.contentsOfDirectory(atPath: trash).isEmpty)
    }

    @Test func `work in a directory whose name is not text is found`() async throws {
        let run = try await RunFixture()
        try await run.sh(
            "d=build/$(printf 'x\\377'); mkdir -p \"$d\"; git init -q \"$d/dep\"; cd \"$d/dep\"; git commit -q --allow-empty -m x"
        )
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.kind) == [.nestedRepository])
    }

    @Test func `a linked worktree inside the workdir is not taken along`() async throws {
        let run = try await RunFixture(prepare: "git update-ref refs/remotes/origin/main HEAD")
        try await run.sh("git worktree add -q --detach build/tree")
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.path) == ["build/tree"])
    }
}

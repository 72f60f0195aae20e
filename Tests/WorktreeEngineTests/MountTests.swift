import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// Processes that are inside a workdir by another path than its own.
@Suite struct MountTests {
    @Test(
        .enabled(if: Mount.canTry, "needs root"),
        arguments: [
            ("a mount of the workdir", "mount --bind $WD $M; cd $M", "cwd"),
            ("a mount of a directory in it", "mount --bind $WD/sub $M; cd $M/deep", "cwd"),
            ("a mount of what it lies in", "mount --bind ${WD%/*} $M; cd $M/${WD##*/}", "cwd"),
            ("a file through a mount", "mount --bind $WD $M; exec 9<$M/README.md", "fd 9"),
            // No table lists the mount any more, but the process still runs in it.
            ("a detached mount", "mount --bind $WD $M; cd $M/sub; umount --lazy $M", "cwd"),
            ("a file through a detached mount", "mount --bind $WD $M; exec 9<$M/README.md; umount --lazy $M", "fd 9"),
        ], [false, true])
    func `a process that entered through another mount blocks the cleanup`(
        _ way: (name: String, script: String, holds: String), _ ownNamespace: Bool
    ) async throws {
        let run = try await RunFixture()
        // What is mounted in here stays in the namespace that it was mounted in, and goes with this mount.
        let mount = try await Mount(tmpfs: "1M")
        defer { withExtendedLifetime(mount) {} }
        let point = "\(mount.path)/a mount"
        try FileManager.default.createDirectory(atPath: point, withIntermediateDirectories: false)
        let early = try await run.engine.planCleanup(run.key)
        let script =
            "set -e; WD='\(run.path)' M='\(point)'; " + way.script.replacing("$M", with: "\"$M\"")
            + "; echo in; exec sleep 600"
        try write(TestFile("script", script), in: run.scratch.path)
        // Not "private": the root directory of a chroot may not be a mount point, and unshare then fails.
        let wrapper = ownNamespace ? "unshare --mount --propagation unchanged " : ""
        let child = try Child("exec \(wrapper)sh '\(run.scratch.path)/script'")
        defer { child.end() }
        #expect(try await run.engine.planCleanup(run.key).processes.map(\.holds) == [way.holds])
        #expect(try await code { _ = try await run.engine.cleanup(early) } == .inUse)
        child.end()
        #expect(try await run.engine.cleanup(run.engine.planCleanup(run.key)).run.state == .removed)
    }

    @Test(.enabled(if: Mount.canTry, "needs root"), arguments: [false, true])
    func `a file mapped through another mount blocks the removal, also when that is detached`(
        _ isDetached: Bool
    ) async throws {
        let run = try await RunFixture()
        let mount = try await Mount(tmpfs: "1M")
        defer { withExtendedLifetime(mount) {} }
        let point = "\(mount.path)/point"
        try await shell("mkdir $M; mount --bind $WD $M", in: "/", ["M": point, "WD": run.path])
        let mapped = open("\(point)/README.md", O_RDWR)
        let address = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0)
        close(mapped)
        #expect(address != MAP_FAILED)
        if isDetached { #expect(umount2(point, CInt(MNT_DETACH)) == 0) }
        let plan = try await run.engine.planCleanup(run.key)
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .inUse)
        munmap(address, 4096)
        #expect(try await run.engine.cleanup(run.engine.planCleanup(run.key)).run.state == .removed)
    }

    @Test func `a process whose path is longer than PATH_MAX blocks the cleanup`() async throws {
        let run = try await RunFixture()
        let name = String(repeating: "d", count: 200)
        let child = try Child(
            "cd '\(run.path)'; mkdir build; cd build; for i in $(seq 30); do mkdir \(name); cd -P \(name) 2>/dev/null || "
                + "cd ./\(name); done; echo in; exec sleep 600")
        defer { child.end() }
        #expect(try await run.engine.planCleanup(run.key).processes.map(\.holds) == ["cwd"])
        child.end()
        #expect(try await run.engine.cleanup(ifClean: run.key).run.state == .removed)
    }

    @Test(.enabled(if: Mount.canTry, "needs root"))
    func `a process in another namespace whose other filesystem has the same path does not block`() async throws {
        // Private, so that what is mounted in here stays in the namespace of the process.
        let mount = try await Mount(tmpfs: "64M")
        defer { withExtendedLifetime(mount) {} }
        let scratch = try Scratch(below: mount.path)
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path))
        let script = """
            set -e; mount -t tmpfs none '\(scratch.path)/state'; mkdir -p '\(workdir.path)'; cd '\(workdir.path)'
            echo in; exec sleep 600
            """
        try write(TestFile("script", script), in: scratch.path)
        let child = try Child("exec unshare --mount --propagation unchanged sh '\(scratch.path)/script'")
        defer { child.end() }
        #expect(try await engine.planCleanup(workdir.run).processes.isEmpty)
        #expect(try await engine.cleanup(ifClean: workdir.run).run.state == .removed)
    }

    @Test func `a mapped file keeps the workdir from removal, also when its descriptor is closed`() async throws {
        let run = try await RunFixture()
        let plan = try await run.engine.planCleanup(run.key)
        let mapped = open("\(run.path)/README.md", O_RDWR)
        let address = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0)
        close(mapped)
        #expect(address != MAP_FAILED)
        let error = await #expect(throws: EngineError.self) { _ = try await run.engine.cleanup(plan) }
        #expect(error?.code == .inUse && error?.message.contains("mapping") == true)
        #expect(FileManager.default.fileExists(atPath: "\(run.path)/README.md"))
        munmap(address, 4096)
        #expect(try await run.engine.cleanup(plan).run.state == .removed)
    }
}

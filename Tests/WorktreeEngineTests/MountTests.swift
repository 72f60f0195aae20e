import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// Who is inside a workdir by another way than its path.
@Suite struct MountTests {
    @Test(
        .enabled(if: Mount.isPossible),
        arguments: [
            ("a mount of the workdir", "mount --bind $WD $M; cd $M; echo in; exec sleep 600", "cwd"),
            ("a mount of a directory in it", "mount --bind $WD/sub $M; cd $M/deep; echo in; exec sleep 600", "cwd"),
            ("a mount of what it lies in", "mount --bind ${WD%/*} $M; cd $M/${WD##*/}; echo in; exec sleep 600", "cwd"),
            ("a file through a mount", "mount --bind $WD $M; exec 9<$M/README.md; echo in; exec sleep 600", "fd 9"),
        ], [false, true])
    func `a process that came in by another mount keeps the workdir`(
        _ way: (name: String, script: String, holds: String), _ ownNamespace: Bool
    ) async throws {
        let run = try await RunFixture()
        let point = "\(run.scratch.path)/a mount"
        try FileManager.default.createDirectory(atPath: point, withIntermediateDirectories: false)
        defer { if !ownNamespace { umount2(point, CInt(MNT_DETACH)) } }
        let early = try await run.engine.planCleanup(run.key)
        let script = "set -e; WD='\(run.path)' M='\(point)'; " + way.script.replacing("$M", with: "\"$M\"")
        try write(TestFile("script", script), in: run.scratch.path)
        let child = try Child(
            ownNamespace
                ? "exec unshare --mount --propagation private sh '\(run.scratch.path)/script'"
                : "exec sh '\(run.scratch.path)/script'")
        defer { child.end() }
        #expect(try await run.engine.planCleanup(run.key).processes.map(\.holds) == [way.holds])
        // In the trash a workdir is out of a mount of the directory that it lay in: the kernel has no path there for it.
        let plan = way.script.contains("${WD%") ? try await run.engine.planCleanup(run.key) : early
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .inUse)
        child.end()
        #expect(try await run.engine.cleanup(run.engine.planCleanup(run.key)).run.state == .removed)
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

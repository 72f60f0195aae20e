import Foundation
import TestSupport
import Testing

private let key = ["local#1", "2026-02-14-backend-0001"]

/// The command on btrfs, where workdirs are snapshots.
@Suite(.enabled(if: FilesystemImage.Kind.btrfs.canTry, "needs root and mkfs.btrfs"))
struct SnapshotCommandTests {
    /// As root without the privilege that dropping a subvolume takes, which is what every other user is.
    private let unprivileged = ["/usr/bin/setpriv", "--bounding-set=-sys_admin"]

    private func expectLife(_ tool: Tool, _ repository: TestRepository, _ wrapper: [String]) async throws {
        // With nothing to be found in PATH no process can be started, and a fallback would fail.
        let bare: [String: String?] = ["PATH": "/nonexistent"]
        for number in 1...2 {
            let spawn = ["spawn", "--repo", repository.path, "--issue", "local#\(number)", "--run", key[1], "--json"]
            let spawned = try await tool.run(spawn, wrapper: wrapper, environment: bare)
            #expect(try spawned.object["materializer"] as? String == "snapshot", "\(spawned)")
            let path = try #require(try spawned.object["path"] as? String)
            #expect(try await git("status", "--porcelain", "--ignored", in: path) == "")
        }
        for issue in ["local#1", "local#2"] {
            let plan = try await tool.run(
                ["cleanup", issue, key[1], "--json"], wrapper: wrapper, environment: bare)
            let token = try #require(try plan.object["token"] as? String)
            let cleaned = try await tool.run(
                ["cleanup", issue, key[1], "--confirm", token], wrapper: wrapper, environment: bare)
            #expect(cleaned.status == 0, "\(cleaned)")
        }
        for place in ["stage", "trash"] {
            let path = "\(tool.state)/workdirs/.wtengine/\(place)"
            #expect(try FileManager.default.contentsOfDirectory(atPath: path) == [])
        }
    }

    @Test func `a template is made, and snapshots of it come and go, without any process`() async throws {
        let image = try await FilesystemImage(.btrfs)
        let scratch = try Scratch(below: image.path)
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        try await expectLife(tool, repository, [])
        #expect(try await tool("doctor").output.contains("a removal drops them as a whole"))
        let left = try await shell("btrfs subvolume list .", in: image.path).split(separator: "\n")
        #expect(left.count == 1, "the template only: \(left)")
    }

    @Test func `who may not drop a subvolume unlinks its files, and doctor says so`() async throws {
        let image = try await FilesystemImage(.btrfs)
        let scratch = try Scratch(below: image.path)
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        try await expectLife(tool, repository, unprivileged)
        let doctor = try await tool.run(["doctor"], wrapper: unprivileged)
        #expect(doctor.status == 0)
        #expect(doctor.output.contains("user_subvol_rm_allowed"), "\(doctor)")
        let left = try await shell("btrfs subvolume list .", in: image.path).split(separator: "\n")
        #expect(left.count == 1, "the template only: \(left)")
        // The template of a repository that is gone goes the same way.
        try FileManager.default.removeItem(atPath: repository.path)
        #expect(try await tool.run(["sweep"], wrapper: unprivileged).status == 0)
        #expect(try await shell("btrfs subvolume list .", in: image.path) == "")
    }
}

import Foundation
import TestSupport
import Testing

/// Workdirs that are snapshots: who makes or removes one is killed.
@Suite(.enabled(if: FilesystemImage.Kind.btrfs.canTry, "needs root and mkfs.btrfs"))
struct SnapshotCrashTests {
    /// Recovery is killed at most of its moments as well, over all moments of the first.
    private func second(_ moment: Int) -> Int { 1 + moment * 5 % 31 }

    /// Every subvolume is the one of a template or a run.
    private func expectNoOtherSubvolume(_ place: Crash, _ image: FilesystemImage, _ comment: Comment) async throws {
        let name = (place.scratch.path as NSString).lastPathComponent
        let found = try await shell("btrfs subvolume list .", in: image.path).split(separator: "\n")
            .filter { $0.contains(name) }
        let runs = try await place.runs().count
        #expect(found.count == place.templates.count + runs, "\(comment): \(found)")
    }

    private func expectIsSnapshot(_ place: Crash, _ image: FilesystemImage, _ comment: Comment) async throws {
        #expect(try await place.runs().last?["materializer"] as? String == "snapshot", comment)
        try await place.expectIsClean(comment)
        #expect(place.templates.count == 1, comment)
        try await expectNoOtherSubvolume(place, image, comment)
        try await place.expectCleansUp(comment)
        #expect(place.templates == [], comment)
        try await expectNoOtherSubvolume(place, image, comment)
    }

    @Test(arguments: Moments.parts, [true, false])
    func `a spawn that is killed is undone or finished`(_ part: Int, hasTemplate: Bool) async throws {
        let image = try await FilesystemImage(.btrfs)
        try await Moments.each(part) { moment in
            let place = try await Crash(below: image.path)
            let first = ["spawn", "--repo", place.repository.path, "--issue", "local#9", "--run", Crash.key[1]]
            if hasTemplate { try await place.succeed(first) }
            let killed = try await place.killing(at: moment, place.spawn("--materializer", "snapshot"))
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(killedAt: second(moment), comment)
            try await expectNoOtherSubvolume(place, image, comment)
            if try await place.runs().count == (hasTemplate ? 1 : 0) {
                try await place.succeed(place.spawn("--materializer", "snapshot"), comment)
            }
            try await expectIsSnapshot(place, image, comment)
            return killed
        }
    }

    @Test(arguments: Moments.parts) func `a cleanup that is killed is finished or taken back`(_ part: Int) async throws
    {
        let image = try await FilesystemImage(.btrfs)
        try await Moments.each(part) { moment in
            let place = try await Crash(below: image.path)
            let path = try await place.succeed(place.spawn()).output.trimmingCharacters(in: .newlines)
            try await shell("echo work > work.txt; git add work.txt; git commit -q -m work", in: path)
            let commit = try await git("rev-parse", "HEAD", in: path)
            let token = try await place.tool.token(Crash.key[0], Crash.key[1])
            let killed = try await place.killing(at: moment, ["cleanup"] + Crash.key + ["--confirm", token])
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(killedAt: second(moment), comment)
            try await expectNoOtherSubvolume(place, image, comment)
            let branch = try await git("rev-parse", "run/local#1/2026-02-14-backend-0001", in: place.repository.path)
            #expect(branch == commit, comment)
            if try await place.runs().isEmpty {
                #expect(!FileManager.default.fileExists(atPath: path), comment)
                return killed
            }
            #expect(try String(contentsOfFile: "\(path)/work.txt", encoding: .utf8) == "work\n", comment)
            try await place.expectIsClean(comment)
            try await place.expectCleansUp(comment)
            try await expectNoOtherSubvolume(place, image, comment)
            return killed
        }
    }
}

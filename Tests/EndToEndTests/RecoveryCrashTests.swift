import Foundation
import TestSupport
import Testing

/// A spawn was killed when it had made its branch, and so is the recovery, at one moment after the other.
struct RecoveryCrashTests {
    private static let branch = "run/local#1/2026-02-14-backend-0001"

    private func killSpawn(at moment: Int) async throws -> (Crash, Answer) {
        let place = try await Crash()
        return (place, try await place.killing(at: moment, place.spawn()))
    }

    private func hasBranch(_ place: Crash) async throws -> Bool {
        // Not while libgit2 still has its lock files: they are told by their times, which a copy has not.
        let changing = try await shell("cat .git/wtengine.lock || true", in: place.repository.path)
        return try await place.repository.branches().contains(Self.branch) && changing == ""
    }

    /// The first moment at which a spawn that is killed has made its branch.
    private func firstMoment() async throws -> Int {
        var (low, high) = (1, 1000)
        while low < high {
            let middle = (low + high) / 2
            let (place, killed) = try await killSpawn(at: middle)
            if !killed.isKilled {
                high = middle
            } else if try await hasBranch(place) {
                high = middle
            } else {
                low = middle + 1
            }
        }
        return low
    }

    /// Returns a spawn that was killed after it created the branch, before or after it published the admin entry. The number
    /// of changes before that varies between runs.
    private func killedSpawn(isPublished: Bool) async throws -> Crash {
        let first = try await firstMoment()
        for moment in first..<(first + 10) {
            let (place, killed) = try await killSpawn(at: moment)
            let entries = "\(place.repository.path)/.git/worktrees"
            let count = (try? FileManager.default.contentsOfDirectory(atPath: entries))?.count ?? 0
            if killed.isKilled, count == (isPublished ? 1 : 0), try await hasBranch(place) { return place }
        }
        throw CommandError(description: "none of 10 kills from change \(first) on came between branch and admin entry")
    }

    /// The admin entry is staged still, and is then published.
    @Test(arguments: [false, true])
    func `a recovery that is killed forgets nothing of what it has to undo`(isPublished: Bool) async throws {
        let place = try await killedSpawn(isPublished: isPublished)
        try await shell("mkdir backup; cp -a repo state backup", in: place.scratch.path)
        try await expectUndoes(place)
    }

    private func expectUndoes(_ place: Crash) async throws {
        var moment = 1
        var isKilled = true
        while isKilled {
            try await shell("rm -rf repo state; cp -a backup/. .", in: place.scratch.path)
            let killed = try await place.killing(at: moment, ["recover"])
            isKilled = killed.isKilled
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.succeed(["recover"], comment)
            #expect(try await place.repository.branches() == ["main"], comment)
            try await place.expectNothingHalfMade(comment)
            // A recovery changes less than what it undoes.
            moment += max(1, Moments.step / 6)
        }
        #expect(moment > 10, "the recovery has much to undo")
        try await place.succeed(place.spawn())
        try await place.expectIsClean("after the last recovery")
    }
}

import Foundation
import TestSupport
import Testing

/// A process is killed at its Nth call that changes a file, for many N; then `recover` has to mend what is left.
struct CrashTests {
    @Test(arguments: Moments.parts) func `a spawn that is killed is undone or finished`(_ part: Int) async throws {
        try await Moments.each(part) { moment in
            let place = try await Crash()
            let killed = try await place.killing(at: moment, place.spawn())
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(comment)
            // Nothing is left, so the very same request succeeds.
            if try await place.runs().isEmpty { try await place.succeed(place.spawn(), comment) }
            try await place.expectIsClean(comment)
            return killed
        }
    }

    @Test(arguments: Moments.parts) func `a claim that is killed is undone or finished`(_ part: Int) async throws {
        try await Moments.each(part) { moment in
            let place = try await Crash()
            try await place.succeed(["pool", "fill", "--repo", place.repository.path, "--size", "2"])
            let killed = try await place.killing(at: moment, place.spawn("--materializer", "pool"))
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(comment)
            // At most one slot is gone, so the very same request finds one.
            if try await place.runs().isEmpty {
                try await place.succeed(place.spawn("--materializer", "pool"), comment)
            }
            try await place.expectIsClean(comment)
            return killed
        }
    }

    @Test(arguments: Moments.parts) func `a fill that is killed leaves whole slots only`(_ part: Int) async throws {
        try await Moments.each(part) { moment in
            let place = try await Crash()
            let fill = ["pool", "fill", "--repo", place.repository.path, "--size", "2"]
            let killed = try await place.killing(at: moment, fill)
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(comment)
            // What is there can be handed out, and the next fill goes on.
            try await place.succeed(fill, comment)
            #expect(place.slots.count == 2, comment)
            try await place.succeed(place.spawn("--materializer", "pool"), comment)
            try await place.expectIsClean(comment)
            return killed
        }
    }

    @Test(arguments: Moments.parts) func `a drain that is killed leaves whole slots only`(_ part: Int) async throws {
        try await Moments.each(part) { moment in
            let place = try await Crash()
            try await place.succeed(["pool", "fill", "--repo", place.repository.path, "--size", "2"])
            let killed = try await place.killing(at: moment, ["pool", "drain"])
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(comment)
            try await place.expectCleansUp(comment)
            #expect(try await place.tool("pool", "status", "--json").array.isEmpty, comment)
            return killed
        }
    }

    @Test(arguments: Moments.parts) func `a cleanup that is killed is finished or taken back`(_ part: Int) async throws
    {
        try await Moments.each(part) { moment in
            let place = try await Crash()
            let path = try await place.succeed(place.spawn()).output.trimmingCharacters(in: .newlines)
            try await shell("echo work > work.txt; git add work.txt; git commit -q -m work", in: path)
            let commit = try await git("rev-parse", "HEAD", in: path)
            let token = try await place.tool.token(Crash.key[0], Crash.key[1])
            let killed = try await place.killing(at: moment, ["cleanup"] + Crash.key + ["--confirm", token])
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(comment)
            // The run's commit is reached by nothing else, so its branch has to be there.
            let branch = try await git("rev-parse", "run/local#1/2026-02-14-backend-0001", in: place.repository.path)
            #expect(branch == commit, comment)
            if try await place.runs().isEmpty {
                #expect(!FileManager.default.fileExists(atPath: path), comment)
            } else {
                #expect(try String(contentsOfFile: "\(path)/work.txt", encoding: .utf8) == "work\n", comment)
            }
            return killed
        }
    }
}

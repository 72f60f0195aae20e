import TestSupport
import Testing

/// The base has moved since its slots were filled, and who brings them forward is killed.
struct ForwardCrashTests {
    /// No attributes that convert, so that the difference of the trees is all that has to be written.
    private static let files = [
        TestFile("README.md", "hello\n"), TestFile("zero", ""), TestFile("run", "#!/bin/sh\n", .executable),
        TestFile("link", "README.md", .link), TestFile("a/b/c/deep.txt"), TestFile("a/b.txt"), TestFile("dir/one"),
        TestFile("dir/sub/two"),
    ]

    /// Two slots, and then another commit with something of everything.
    private func place() async throws -> Crash {
        let place = try await Crash(files: Self.files)
        try await place.succeed(fill(place))
        try await shell(
            """
            echo other > README.md; chmod +x a/b.txt; git rm -rq dir; ln -sfn zero link; rm run; mkdir run; echo x > run/in
            mkdir -p n/e/w; echo x > n/e/w/file; git add -A; git commit -q -m second
            """, in: place.repository.path)
        return place
    }

    private func fill(_ place: Crash) -> [String] { ["pool", "fill", "--repo", place.repository.path, "--size", "2"] }

    /// Recovery is killed at most of its moments as well, over all moments of the first.
    private func second(_ moment: Int) -> Int { 1 + moment * 5 % 37 }

    @Test(arguments: Moments.parts)
    func `a claim that is killed while it brings a slot forward is undone or finished`(_ part: Int) async throws {
        try await Moments.each(part) { moment in
            let place = try await place()
            let killed = try await place.killing(at: moment, place.spawn("--materializer", "pool"))
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(killedAt: second(moment), comment)
            if try await place.runs().isEmpty {
                try await place.succeed(place.spawn("--materializer", "pool"), comment)
            }
            try await place.expectIsClean(comment)
            try await place.expectCleansUp(comment)
            return killed
        }
    }

    @Test(arguments: Moments.parts)
    func `a sweep that is killed while it brings slots forward leaves whole slots only`(_ part: Int) async throws {
        try await Moments.each(part) { moment in
            let place = try await place()
            let killed = try await place.killing(at: moment, ["sweep"])
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(killedAt: second(moment), comment)
            try await place.succeed(["sweep"], comment)
            let pool = try await place.tool("pool", "status", "--json").array.first
            #expect(pool?["ready"] as? Int == 2 && pool?["stale"] as? Int == 0, comment)
            try await place.succeed(place.spawn("--materializer", "pool"), comment)
            try await place.expectIsClean(comment)
            try await place.expectCleansUp(comment)
            return killed
        }
    }

    /// The claim brings the one slot forward; in the background the other follows and a third is filled.
    @Test(arguments: Moments.parts)
    func `a scheduler that is killed while it refills leaves whole slots only`(_ part: Int) async throws {
        try await Moments.each(part) { moment in
            let place = try await place()
            func arguments(_ issue: String) -> [String] { [place.tool.state, place.repository.path, issue] }
            let embedder = Tool.product("embedder")
            let killed = try await place.killing(at: moment, arguments(Crash.key[0]), program: embedder)
            let comment: Comment = "at \(moment): \(killed.message)"
            try await place.expectRecovers(killedAt: second(moment), comment)
            let again = try await place.runs().isEmpty ? Crash.key[0] : "local#2"
            try await place.succeed(arguments(again), comment, program: embedder)
            #expect(place.slots.count == 2, comment)
            try await place.expectNothingHalfMade(comment)
            try await place.expectIsClean(comment)
            try await place.expectCleansUp(comment)
            return killed
        }
    }
}

import Foundation
import Glibc
import TestSupport
import Testing
import WorktreeEngine

@Suite struct IncludeTests {
    @Test func `ignored files are copied with their modes, and what is there or missing is left`() async throws {
        let fixture = try await RunFixture(
            prepare: """
                printf '.env\\nconf/local\\nkept\\nabsent\\n' >> .git/info/exclude
                echo secret > .env; chmod 600 .env; mkdir conf; echo x > conf/local; chmod 755 conf/local; echo new > kept
                """)
        try await fixture.sh("echo own > kept")
        let paths = [".env", "conf/local", "kept", "absent"]
        for _ in 1...2 {
            let included = try await fixture.engine.include(paths, in: fixture.key)
            #expect(included == Included(copied: [".env", "conf/local", "kept"], missing: ["absent"]))
        }
        let modes = try await fixture.sh(
            "stat -c '%a %n' .env conf/local; cat .env conf/local kept; git status --porcelain")
        #expect(modes == "600 .env\n755 conf/local\nsecret\nx\nown\n")
        // Ignored files go with the workdir.
        #expect(try await fixture.engine.planCleanup(fixture.key).risks == [])
    }

    @Test(arguments: [
        (":", ".env"), ("echo .env >> .git/info/exclude; ln -s /etc/passwd .env", ".env"),
        ("echo .env >> .git/info/exclude; mkfifo .env", ".env"), ("echo .env >> .git/info/exclude; mkdir .env", ".env"),
        ("echo /d >> .git/info/exclude; ln -s /etc d", "d/passwd"), ("echo '*' >> .git/info/exclude", "../outside"),
        ("echo '*' >> .git/info/exclude", "/etc/passwd"), ("echo '*' >> .git/info/exclude", ".git/config"),
        ("echo '*' >> .git/info/exclude", "README.md"), ("echo '*' >> .git/info/exclude", ""),
    ])
    func `what git does not ignore, or is no file below the top, is refused`(prepare: String, path: String) async throws
    {
        let fixture = try await RunFixture(prepare: "echo outside > ../outside; \(prepare)")
        let before = try snapshot(fixture.path)
        let code = try await code { _ = try await fixture.engine.include([path], in: fixture.key) }
        #expect(code == .include)
        #expect(try snapshot(fixture.path) == before)
    }

    @Test func `a bare repository has nothing to copy`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await git("clone", "--quiet", "--bare", repository.path, "\(scratch.path)/bare.git", in: scratch.path)
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(
            SpawnRequest(issue: "local#1", run: "2026-02-14-qa-0001", repository: "\(scratch.path)/bare.git"))
        #expect(try await code { _ = try await engine.include([".env"], in: workdir.run) } == .include)
        #expect(try await engine.include([], in: workdir.run) == Included(copied: [], missing: []))
    }
}

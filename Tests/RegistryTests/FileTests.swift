import Foundation
import GRDB
import Glibc
import Registry
import TestSupport
import Testing

@Suite struct FileTests {
    private func opening(_ path: String) async -> String? {
        await failure { _ = try Registry(path: path, actor: "test") }
    }

    @Test func `a file that is no database is corrupt, and stays as it is`() async throws {
        let scratch = try Scratch()
        let garbage = String(repeating: "no database at all\n", count: 500)
        try write(TestFile("registry.sqlite", garbage), in: scratch.path)
        #expect(await opening("\(scratch.path)/registry.sqlite") == "corrupt")
        #expect(try String(contentsOfFile: "\(scratch.path)/registry.sqlite", encoding: .utf8) == garbage)
    }

    @Test func `an empty file becomes a registry`() async throws {
        let scratch = try Scratch()
        try write(TestFile("registry.sqlite", ""), in: scratch.path)
        try await scratch.registry().spawn(makeRun())
        #expect(try await scratch.registry().runs().count == 1)
    }

    @Test func `damage inside the file is found, at the latest by the check`() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/registry.sqlite"
        do {
            let registry = try scratch.registry()
            for number in 1...200 { try await registry.spawn(makeRun("local#\(number)")) }
        }
        try await database(path).writeWithoutTransaction {
            try $0.execute(sql: "PRAGMA wal_checkpoint(TRUNCATE)")
        }
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        let size = try file.seekToEnd()
        for page in stride(from: UInt64(8192), to: size, by: 4096) {
            try file.seek(toOffset: page)
            try file.write(contentsOf: Data(repeating: 0x5A, count: 2048))
        }
        try file.close()
        var found: String?
        do {
            let registry = try Registry(path: path, actor: "test")
            found = await failure { _ = try await registry.runs() }
            if found == nil { found = try await registry.integrityProblems().isEmpty ? nil : "problems" }
        } catch { found = "\(error)".hasPrefix("corrupt") ? "corrupt" : "\(error)" }
        #expect(found == "corrupt" || found == "problems")
    }

    @Test(.enabled(if: Mount.canTry, "needs root"))
    func `a full disk is called full and no failure of the registry`() async throws {
        let mount = try await Mount(tmpfs: "2M")
        let path = "\(mount.path)/registry.sqlite"
        do { try await Registry(path: path, actor: "test").spawn(makeRun()) }
        // The shell's `|| true`: it ends with the disk full, as it shall.
        try await run(["sh", "-c", "cat /dev/zero >filler 2>/dev/null || true"], in: mount.path)
        #expect(await opening(path) == "full")
        #expect(unlink("\(mount.path)/filler") == 0)
        #expect(await opening(path) == nil)
    }

    @Test func `a registry of a newer version is refused and not changed`() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/registry.sqlite"
        do { try await scratch.registry().spawn(makeRun()) }
        try await sql("INSERT INTO grdb_migrations (identifier) VALUES ('99')", path)
        #expect(await opening(path) == "newer")
        #expect(try await sql("SELECT count(*) FROM runs", path).first?[0] == 1)
    }

    @Test func `a word that this version does not know is corrupt, not a default`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (made, _) = try await registry.spawn(makeRun())
        try await sql("UPDATE runs SET materializer = 'teleport'", registry.path)
        #expect(await failure { _ = try await registry.run(made.key) } == "corrupt")
        try await sql("UPDATE runs SET materializer = 'git', removal = '{'", registry.path)
        #expect(await failure { _ = try await registry.run(made.key) } == "corrupt")
        try await sql("UPDATE runs SET removal = NULL, role = '../x'", registry.path)
        #expect(await failure { _ = try await registry.run(made.key) } == "corrupt")
    }

    @Test func `a directory that is missing, or a path that is a directory, is named as such`() async throws {
        let scratch = try Scratch()
        #expect(await opening("\(scratch.path)/missing/registry.sqlite") == "readOnly")
        #expect(await opening(scratch.path) == "readOnly")
    }

    @Test(.enabled(if: geteuid() != 0, "root may write everywhere"))
    func `a file that may not be written is read-only`() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/registry.sqlite"
        do { try await scratch.registry().spawn(makeRun()) }
        chmod(path, 0o444)
        chmod(scratch.path, 0o555)
        defer { chmod(scratch.path, 0o700) }
        var error = await opening(path)
        if error == nil {
            let registry = try scratch.registry()
            error = await failure { try await registry.note("x", detail: nil) }
        }
        #expect(error == "readOnly")
    }

    @Test func `the audit log cannot be changed, not even by SQL`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        try await registry.spawn(makeRun())
        let before = try await registry.audit()
        for statement in [
            "UPDATE audit SET detail = 'x'", "DELETE FROM audit", "DELETE FROM audit WHERE id = 1",
            "INSERT OR REPLACE INTO audit (id, at, actor, action) VALUES (1, 1, 'x', 'x')",
        ] {
            let result = try? await sql(statement, registry.path)
            #expect(result == nil, "\(statement)")
        }
        #expect(try await registry.audit() == before)
    }

    @Test func `a durable commit leaves later ones as they were`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (made, _) = try await registry.spawn(makeRun())
        for _ in 0..<3 {
            try await registry.transition(made.key, from: [.ready], to: .ready, action: "x", durable: true)
            let refused = await failure {
                try await registry.transition(made.key, from: [.detached], to: .cleaning, action: "x", durable: true)
            }
            #expect(refused == "illegalTransition")
            try await registry.note("after", detail: nil)
        }
        #expect(try await registry.audit().filter { $0.action == "x" }.count == 3)
    }

    @Test func `roots keep their first marker`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        #expect(try await registry.rootMarker("/r") == nil)
        #expect(try await registry.recordRoot("/r", marker: "one") == "one")
        #expect(try await registry.recordRoot("/r", marker: "two") == "one")
        #expect(try await scratch.registry().rootMarker("/r") == "one")
    }

    /// A connection that waits for a lock: a registry that has just gone may still be closing the file.
    private func database(_ path: String) throws -> DatabaseQueue {
        var configuration = GRDB.Configuration()
        configuration.busyMode = .timeout(10)
        return try DatabaseQueue(path: path, configuration: configuration)
    }

    /// Runs SQL beside the registry, as a person with a shell might.
    @discardableResult
    private func sql(_ statement: String, _ path: String) async throws -> [Row] {
        try database(path).write { try Row.fetchAll($0, sql: statement) }
    }
}

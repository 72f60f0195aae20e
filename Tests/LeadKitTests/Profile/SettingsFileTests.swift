import Foundation
import TestSupport
import Testing
import WorktreeEngine

@testable import Settings

/// config.toml, and what any settings file must be.
@Suite struct SettingsFileTests {
    private func load(_ text: String) throws -> Configuration {
        let scratch = try Scratch()
        try write(TestFile("config.toml", text), in: scratch.path)
        return try ConfigurationFile.load(state: scratch.path)
    }

    @Test func `every key of config.toml is read`() throws {
        let configuration = try load(
            """
            roots = ["/srv/a", "/srv/b"]
            [limits]
            per_repository = 20
            per_role = 4
            disk_reserve = "1GiB"
            [policies]
            ok = "immediate"
            fail = "keep"
            timeout = "90m"
            [branch]
            template = "x/{run}"
            delete_unmerged = true
            [cleanup]
            ignored = "keep"
            [checkout]
            workers = 3
            memory = "64MiB"
            [pool]
            size = 5
            [git]
            timeout = "5m"
            [audit]
            actor = "lead"
            """)
        #expect(configuration.roots == ["/srv/a", "/srv/b"])
        #expect(configuration.limits.perRepository == 20 && configuration.limits.perRole == 4)
        #expect(configuration.diskReserve == 1 << 30)
        #expect(configuration.policy(for: .ok) == .immediate && configuration.policy(for: .fail) == .keep)
        #expect(configuration.policy(for: .timeout) == .ttl(.seconds(5400)))
        #expect(configuration.policy(for: .blocked) == .ttl(.seconds(7 * 86400)))
        #expect(configuration.branchTemplate == "x/{run}" && configuration.deletesUnmergedBranches)
        #expect(configuration.keepsIgnoredFiles && configuration.checkoutWorkers == 3 && configuration.poolSize == 5)
        #expect(configuration.checkoutMemory == 64 << 20)
        #expect(configuration.gitTimeout == .seconds(300) && configuration.actor == "lead")
    }

    @Test(arguments: [
        ("[limits]\nper_role = 0", "limits.per_role: integer 0 is not accepted. Expected a whole number of 1 or more."),
        ("[pool]\nsize = 1001", "pool.size: integer 1001 is not accepted. Expected a whole number from 0 to 1000."),
        ("[pool]\nsize = true", "pool.size: bool true is not accepted."), ("pool = 3", "Expected a table: [pool]."),
        ("roots = [\"relative\"]", "roots[0]: \"relative\" is not accepted. Expected an array of absolute paths"),
        ("[policies]\nok = \"soon\"", "policies.ok: \"soon\" is not accepted. Expected \"immediate\", \"keep\" or"),
        ("[policies]\ngood = \"keep\"", "policies.good: no such key. Known in [policies]: ok, fail,"),
        ("[git]\ntimeout = \"0s\"", "longer than nothing"), ("[branch]\ntemplate = \"{who}\"", "placeholders {issue}"),
        ("[audit]\nactor = \"a\\nb\"", "a text of one line"), ("[limits]\ndisk_reserve = -1", "a size such as"),
        ("[cleanup]\nignored = 1.5", "cleanup.ignored: floating-point number 1.5 is not accepted."),
        ("a = 1\nb = 2", "a: no such key. Known at the top: roots,"), ("x = ", "config.toml:1:"),
    ]) func `what is wrong in config.toml is named`(_ text: String, _ message: String) {
        let error = #expect(throws: SettingsError.self) { try load(text) }
        #expect(error?.description.contains(message) == true, "\(String(describing: error))")
    }

    @Test func `no file means the defaults`() throws {
        let scratch = try Scratch()
        #expect(try ConfigurationFile.load(state: scratch.path).poolSize == 0)
    }

    @Test(arguments: ["directory", "fifo", "large", "nul", "latin1", "socket"])
    func `a file that is no text is refused at once`(_ kind: String) async throws {
        let scratch = try Scratch()
        let make = [
            "directory": "mkdir f", "fifo": "mkfifo f", "large": "truncate -s 2M f", "nul": "printf 'a = 1\\0' > f",
            "latin1": "printf 'a = \"\\344\"' > f",
            "socket": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"f\")'",
        ]
        try await shell(make[kind]!, in: scratch.path)
        let error = #expect(throws: SettingsError.self) { try SettingsFile.read("\(scratch.path)/f") }
        #expect(error?.place == nil)
        #expect(error?.description.hasPrefix("\(scratch.path)/f ") == true)
    }

    @Test func `a link is followed only when it may be`() throws {
        let scratch = try Scratch()
        try write(TestFile("f", "text"), in: scratch.path)
        try write(TestFile("l", "f", .link), in: scratch.path)
        #expect(try TextFile.read("\(scratch.path)/l") == "text")
        #expect(throws: TextFile.Refusal.link) { try TextFile.read("\(scratch.path)/l", followsLinks: false) }
        #expect(try TextFile.read("\(scratch.path)/none") == nil)
    }

    @Test func `a file of exactly the limit is read, one byte more is not`() throws {
        let scratch = try Scratch()
        try write(TestFile("f", String(repeating: "x", count: 100)), in: scratch.path)
        #expect(try TextFile.read("\(scratch.path)/f", limit: 100)?.count == 100)
        #expect(throws: TextFile.Refusal.tooLarge(limit: 99)) { try TextFile.read("\(scratch.path)/f", limit: 99) }
    }
}

import Foundation
import Glibc
import TestSupport
import Testing

/// Pools that several processes use, of different rights and settings.
@Suite struct PoolCommandTests {
    /// As a user whose files' modes count, which they do not for root.
    private let asUser = geteuid() == 0 ? ["/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search"] : []

    private func slots(_ tool: Tool) throws -> [String] {
        let top = "\(tool.state)/workdirs/.wtengine/pool"
        return try FileManager.default.contentsOfDirectory(atPath: top).flatMap { pool in
            try FileManager.default.contentsOfDirectory(atPath: "\(top)/\(pool)").filter { $0.hasPrefix("slot-") }
                .map { "\(top)/\(pool)/\($0)" }
        }.sorted()
    }

    @Test(arguments: ["000", "0300", "0500"])
    func `a slot without rights serves nobody and is in nobody's way`(mode: String) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        for (number, command) in [
            ["spawn", "--repo", repository.path, "--issue", "local#1", "--run", "2026-02-14-backend-0001"],
            ["pool", "fill", "--repo", repository.path, "--size", "2"], ["pool", "drain"], ["sweep"], ["recover"],
        ].enumerated() {
            let fill = ["pool", "fill", "--repo", repository.path, "--size", "1"]
            #expect(try await tool.run(fill, wrapper: asUser).status == 0)
            let slot = try #require(try slots(tool).first)
            #expect(chmod(slot, mode_t(mode, radix: 8)!) == 0)
            let answer = try await tool.run(command, wrapper: asUser)
            #expect(answer.status == 0, "\(command): \(answer.message)")
            if number == 0 {
                let path = answer.output.trimmingCharacters(in: .newlines)
                #expect(try await git("status", "--porcelain", "--ignored", in: path) == "")
            }
            #expect(try await tool.run(["pool", "drain"], wrapper: asUser).status == 0)
            #expect(try slots(tool) == [])
        }
    }

    @Test func `a sweep with another umask leaves the slots to those they serve`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        #expect(try await tool("pool", "fill", "--repo", repository.path, "--size", "1").status == 0)
        let before = try slots(tool)
        let swept = try await tool.run(["sweep"], wrapper: ["/bin/sh", "-c", "umask 077; exec \"$@\"", "sh"])
        #expect(try slots(tool) == before)
        #expect((swept.output + swept.message).contains("umask"), "\(swept)")
        let path = try await tool.spawn(
            repository, issue: "local#1", run: "2026-02-14-backend-0001", more: ["--materializer", "pool"])
        #expect(try await git("status", "--porcelain", "--ignored", in: path) == "")
    }

    @Test func `suggested commands name the state directory that was given, and work as they are`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let none: [String: String?] = ["WTENGINE_STATE": nil]
        let state = "\(scratch.path)/it's here"
        let named = ["--state", state]
        let fill = ["pool", "fill", "--repo", repository.path, "--size", "1"]
        #expect(try await tool.run(fill + named, environment: none).status == 0)
        try await repository.commit([TestFile("more")], message: "second")
        let doctor = try await tool.run(["doctor", "--json"] + named, environment: none)
        let remedy = try #require(try doctor.array.compactMap { $0["remedy"] as? String }.first)
        #expect(remedy.hasPrefix("wtengine sweep --state "))
        let path = URL(fileURLWithPath: Tool.path).deletingLastPathComponent().path
        try await run(["sh", "-ec", "PATH=\(path):$PATH; unset WTENGINE_STATE; \(remedy)"], in: scratch.path)
        let status = try await tool.run(["pool", "status", "--json"] + named, environment: none)
        #expect(try status.array.map { $0["ready"] as? Int } == [1])
        let unknown = try await tool.run(["show", "local#1", "2026-02-14-backend-0001"] + named, environment: none)
        #expect(unknown.message.contains("`wtengine list --state '"), "\(unknown.message)")
    }

    @Test func `what a sweep did to the slots of pools is told`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("a")])
        let tool = try Tool(scratch)
        let fill = ["pool", "fill", "--repo", repository.path, "--size", "2"]
        #expect(try await tool.run(fill).status == 0)
        _ = try await tool.spawn(repository, issue: "local#1", run: "2026-02-14-backend-0001")
        try await repository.commit([TestFile("b")], message: "second")
        #expect(try await tool("sweep").output.contains("slots of pools: filled 1, brought 1 forward"))
    }
}

import Foundation
import GRDB
import TestSupport
import Testing
import WorktreeEngine

@testable import LeadKit

/// The examples of docs/workflow.md.
@Suite struct DocumentationTests {
    /// The contents of the page's code blocks of one language.
    private func blocks(_ language: String) throws -> [String] {
        let root = URL(fileURLWithPath: #filePath).pathComponents.dropLast(4).joined(separator: "/").dropFirst()
        let page = try String(contentsOfFile: "\(root)/docs/workflow.md", encoding: .utf8)
        return page.components(separatedBy: "\n```\(language)\n").dropFirst().map {
            String($0.components(separatedBy: "\n```\n")[0])
        }
    }

    @Test func `its profiles are accepted`() async throws {
        let fixture = try await ProfileFixture()
        try await shell("git init -q site", in: fixture.scratch.path)
        let examples = try blocks("toml")
        let profile = try fixture.load(examples[0])
        #expect(profile.groups.map(\.name) == ["api", "web"] && profile.idleGroups.map(\.name) == ["checks"])
        #expect(
            profile.labels
                == Labels(names: Dictionary(uniqueKeysWithValues: TaskState.allCases.map { ($0, "state:\($0)") })))
        #expect(profile.include == [".env"] && profile.workdir.poolSize == 2)
        // The second takes the place of the first one's outbox.
        let rest = try #require(examples[0].range(of: "[repos]"))
        #expect(
            try fixture.load(examples[1] + "\n" + examples[0][rest.lowerBound...]).outbox
                == .forge(kind: .gitlab, repository: "group/subgroup/project", api: "https://git.example.org/api/v4"))
    }

    @Test func `its work order and results are accepted`() throws {
        let scratch = try Scratch()
        let (json, text) = (try blocks("json"), try blocks("text"))
        let order = try JSONDecoder().decode(WorkOrder.self, from: Data(json[0].utf8))
        let pack = try ContextPack.write(order: order, spec: "", in: "\(scratch.path)/packs")
        #expect(
            try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: pack.orderPath)))
                as? NSDictionary
                == JSONSerialization.jsonObject(with: Data(json[0].utf8)) as? NSDictionary)
        try write(TestFile("work_result.json", json[1]), in: pack.directory)
        #expect(try pack.result()?.status == .ok)
        try FileManager.default.removeItem(atPath: pack.resultPath)
        try write(TestFile("work_result.txt", text[0]), in: pack.directory)
        #expect(try pack.result()?.text == "The staging database is down.")
    }

    @Test func `its tables are those that are made, and its issue is found`() async throws {
        let scratch = try Scratch()
        let sql = try blocks("sql")
        let path = "\(scratch.path)/outbox.sqlite"
        try await DatabaseQueue(path: path).writeWithoutTransaction { try $0.execute(sql: sql[0]) }
        try SQLiteOutbox.create("\(scratch.path)/made.sqlite")
        let schema = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        let described = try await DatabaseQueue(path: path).read { try String.fetchAll($0, sql: schema) }
        let made = try await DatabaseQueue(path: "\(scratch.path)/made.sqlite").read {
            try String.fetchAll($0, sql: schema)
        }
        #expect(described == made && made.count > 6)
        try await DatabaseQueue(path: path).writeWithoutTransaction { try $0.execute(sql: sql[1]) }
        let found = try await SQLiteOutbox(path: path).issues(
            labelled: ["area:api", "state:todo"], assignedTo: "lead-backend")
        #expect(found.map(\.title) == ["Page through results"])
    }
}

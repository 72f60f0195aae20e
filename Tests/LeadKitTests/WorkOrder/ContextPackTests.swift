import Foundation
import Glibc
import LeadKit
import Registry
import TestSupport
import Testing
import WorktreeEngine

let exampleKey = try! RunKey(issue: "org/repo#7", run: "2026-02-14-backend-0001")

/// The order of ``exampleKey``.
func exampleOrder(_ workdir: String, _ change: (inout WorkOrder) -> Void = { _ in }) throws -> WorkOrder {
    var order = WorkOrder(
        issue: exampleKey.issue, run: exampleKey.run, role: try Role("backend"), repoDir: workdir,
        contractsRef: "docs/api.md", constraints: ["no new dependency"], dependsOn: [try IssueRef("org/repo#3")])
    change(&order)
    return order
}

@Suite struct ContextPackTests {
    private let scratch: Scratch
    private let packs: String
    private let workdir: String

    init() throws {
        scratch = try Scratch()
        packs = "\(scratch.path)/state/packs"
        workdir = "\(scratch.path)/workdir"
        try FileManager.default.createDirectory(atPath: workdir, withIntermediateDirectories: true)
    }

    private func mode(_ path: String) throws -> mode_t {
        var value = stat()
        try #require(lstat(path, &value) == 0)
        return value.st_mode & 0o777
    }

    @Test func `a pack holds the order and the specification, for its owner only`() throws {
        let order = try exampleOrder(workdir)
        let pack = try ContextPack.write(order: order, spec: "# Title\n\nText", in: packs)
        #expect(pack.directory == "\(packs)/org+repo+7/2026-02-14-backend-0001")
        #expect(pack == ContextPack(run: exampleKey, in: packs))
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: pack.directory).sorted() == [
                "spec.md", "work_order.json",
            ])
        #expect(try String(contentsOfFile: pack.specPath, encoding: .utf8) == "# Title\n\nText")
        #expect(pack.order() == order)
        for path in [packs, "\(packs)/org+repo+7", pack.directory] { #expect(try mode(path) == 0o700) }
        #expect(try pack.result() == nil)
    }

    @Test func `the order has the keys of the contract and no others`() throws {
        let pack = try ContextPack.write(order: try exampleOrder(workdir), spec: "", in: packs)
        let data = try Data(contentsOf: URL(fileURLWithPath: pack.orderPath))
        let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(
            Set(object.keys) == [
                "issue_ref", "run_id", "role", "repo_dir", "spec_snapshot", "contracts_ref", "constraints",
                "depends_on",
            ])
        #expect(object["issue_ref"] as? String == "org/repo#7")
        #expect(object["run_id"] as? String == "2026-02-14-backend-0001")
        #expect(object["spec_snapshot"] as? String == "spec.md")
        #expect(object["depends_on"] as? [String] == ["org/repo#3"])
        #expect(object["constraints"] as? [String] == ["no new dependency"])

        let reference = try exampleOrder(workdir) {
            $0.spec = .reference("docs/spec.md")
            $0.contractsRef = nil
        }
        let text = String(decoding: try JSONEncoder().encode(reference), as: UTF8.self)
        #expect(text.contains("\"spec_ref\":") && !text.contains("spec_snapshot"))
        #expect(text.contains("\"contracts_ref\":null"))
        #expect(try JSONDecoder().decode(WorkOrder.self, from: Data(text.utf8)) == reference)
    }

    @Test(arguments: [
        "\"spec_ref\": \"a\", \"spec_snapshot\": \"spec.md\"", "\"spec_snapshot\": \"/etc/passwd\"",
        "\"spec_ref\": null",
    ]) func `an order names its specification in exactly one way`(_ spec: String) {
        let text = """
            {"issue_ref": "local#1", "run_id": "r-1", "role": "qa", "repo_dir": "/w", "constraints": [], "depends_on": [],
            \(spec)}
            """
        #expect(throws: DecodingError.self) { try JSONDecoder().decode(WorkOrder.self, from: Data(text.utf8)) }
    }

    @Test
    func `a pack that is there before the worker begins is replaced, with a result that somebody has put into it`()
        throws
    {
        let order = try exampleOrder(workdir)
        let forged = TestFile(
            "org+repo+7/\(order.run)/work_result.txt", "IssueRef: org/repo#7\nRunId: \(order.run)\nStatus: ok\n")
        try write(forged, in: packs)
        let pack = try ContextPack.write(order: order, spec: "first", in: packs)
        #expect(try pack.result() == nil)
        try write(forged, in: packs)
        #expect(try ContextPack.write(order: order, spec: "second", in: packs) == pack)
        #expect(try String(contentsOfFile: pack.specPath, encoding: .utf8) == "second")
        #expect(pack.order() == order)
        #expect(try pack.result() == nil)
    }

    @Test(arguments: [true, false])
    func `a form of another run takes nothing from the other form`(isText: Bool) throws {
        let order = try exampleOrder(workdir)
        let pack = try ContextPack.write(order: order, spec: "", in: packs)
        func put(isText: Bool, _ run: String) throws {
            let text = "IssueRef: org/repo#7\nRunId: \(run)\nStatus: ok\n"
            let json = "{\"issue_ref\": \"org/repo#7\", \"run_id\": \"\(run)\", \"status\": \"ok\"}"
            try write(
                TestFile(isText ? "work_result.txt" : "work_result.json", isText ? text : json), in: pack.directory)
        }
        try put(isText: isText, "2020-01-01-backend-0001")
        #expect(throws: WorkResultError.self) { try pack.result() }
        try put(isText: !isText, order.run.description)
        #expect(try pack.result()?.run == order.run)
    }

    @Test func `what a crash left half-made is replaced`() throws {
        try write(
            TestFile("state/packs/org+repo+7/.new-2026-02-14-backend-0001/work_order.json", "{"), in: scratch.path)
        let pack = try ContextPack.write(order: try exampleOrder(workdir), spec: "", in: packs)
        #expect(pack.order() != nil)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(packs)/org+repo+7").count == 1)
    }

    @Test func `packs of one issue are written and removed side by side`() async throws {
        let order = try exampleOrder(workdir)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 1...8 {
                group.addTask { [packs] in
                    var order = order
                    order.run = try RunID("2026-02-14-backend-000\(number)")
                    for _ in 0..<20 {
                        let pack = try ContextPack.write(order: order, spec: "", in: packs)
                        #expect(pack.order() == order)
                        try pack.remove()
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: packs).isEmpty)
    }

    @Test func `a pack inside the workdir is refused, also by way of a link`() throws {
        try write(TestFile("link", "workdir", .link), in: scratch.path)
        try FileManager.default.createDirectory(atPath: "\(workdir)/packs", withIntermediateDirectories: true)
        for packs in ["\(workdir)/packs", "\(scratch.path)/link/packs", workdir] {
            let error = #expect(throws: EngineError.self) {
                try ContextPack.write(order: try exampleOrder(workdir), spec: "", in: packs)
            }
            #expect(error?.code == .pathNested)
        }
        #expect(throws: EngineError.self) {
            try ContextPack.write(order: try exampleOrder(workdir), spec: "", in: "packs")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(workdir)/packs").isEmpty)
    }

    @Test func `a place where nothing can be written is named`() throws {
        try write(TestFile("state/packs", "x"), in: scratch.path)
        let error = #expect(throws: EngineError.self) {
            try ContextPack.write(order: try exampleOrder(workdir), spec: "", in: packs)
        }
        #expect(error?.message.contains(packs) == true)
    }

    @Test func `removing takes what the worker has left, and nothing behind its links`() async throws {
        let pack = try ContextPack.write(order: try exampleOrder(workdir), spec: "", in: packs)
        try write(TestFile("precious/file", "x"), in: scratch.path)
        try await shell(
            "mkdir -p a/b && touch a/b/c && ln -s \(scratch.path)/precious a/link && ln -s /etc x && mkfifo f && chmod 0 a/b",
            in: pack.directory)
        try pack.remove()
        try pack.remove()
        #expect(try FileManager.default.contentsOfDirectory(atPath: packs).isEmpty)
        #expect(FileManager.default.fileExists(atPath: "\(scratch.path)/precious/file"))
        #expect(try pack.result() == nil)
    }

    @Test func `a removal that was killed goes on with the next`() throws {
        let pack = try ContextPack.write(order: try exampleOrder(workdir), spec: "", in: packs)
        try write(TestFile("org+repo+7/.old-2026-02-14-backend-0001/file"), in: packs)
        try pack.remove()
        #expect(try FileManager.default.contentsOfDirectory(atPath: packs).isEmpty)
    }
}

import Foundation
import LeadKit
import TestSupport
import Testing
import WorktreeEngine

private let head = "IssueRef: org/repo#7\nRunId: 2026-02-14-backend-0001\nStatus: ok\n"
private let fields = "\"issue_ref\": \"org/repo#7\", \"run_id\": \"2026-02-14-backend-0001\", \"status\": \"ok\""

/// What is accepted of a worker, and what not.
@Suite struct WorkResultTests {
    private let scratch: Scratch
    private let pack: ContextPack

    init() throws {
        scratch = try Scratch()
        pack = try ContextPack.write(
            order: try exampleOrder("\(scratch.path)/workdir"), spec: "", in: "\(scratch.path)/packs")
    }

    private func read(text: String? = nil, json: String? = nil) throws -> WorkResult? {
        if let text { try write(TestFile("work_result.txt", text), in: pack.directory) }
        if let json { try write(TestFile("work_result.json", json), in: pack.directory) }
        return try pack.result()
    }

    private func refusal(_ body: () throws -> WorkResult?) -> WorkResultError? {
        #expect(throws: WorkResultError.self) { try body() }
    }

    @Test func `the text form is read whole`() throws {
        let text = """
            IssueRef: org/repo#7
            RunId: 2026-02-14-backend-0001
            Status: blocked
            PR: https://forge.example.org/org/repo/pull/9
            Commit: 0123abcdef
            Tests: 12 passed, 1 failed

            First line: with a colon.

            Status: ok
            """
        for text in [text, text.replacing("\n", with: "\r\n")] {
            let result = try #require(try read(text: text))
            #expect(result.issue == exampleKey.issue && result.run == exampleKey.run && result.status == .blocked)
            #expect(result.pullRequest == "https://forge.example.org/org/repo/pull/9")
            #expect(result.commit == "0123abcdef")
            #expect(result.tests == "12 passed, 1 failed")
            #expect(result.text.replacing("\r\n", with: "\n") == "First line: with a colon.\n\nStatus: ok")
        }
    }

    @Test func `headers may come in any order and case, and free text may be missing`() throws {
        let result = try read(
            text: "status:fail\nRUNID:\t2026-02-14-backend-0001  \nissueref: org/repo#7\nPR:\nTests: ")
        #expect(result?.status == .fail && result?.text == "")
        #expect(result?.pullRequest == nil && result?.tests == nil && result?.commit == nil)
    }

    @Test func `the JSON form is read whole`() throws {
        let result = try read(
            json: "{\(fields), \"pr\": \"12\", \"commit\": null, \"tests\": \"\", \"text\": \"a\\nb\"}")
        #expect(result?.status == .ok && result?.pullRequest == "12" && result?.text == "a\nb")
        #expect(result?.commit == nil && result?.tests == nil)
    }

    @Test func `of two forms that agree the JSON form is taken`() throws {
        let result = try read(
            text: head + "Tests: all\n\nfrom text", json: "{\(fields), \"text\": \"from JSON\"}")
        #expect(result?.text == "from JSON")
    }

    @Test(arguments: [
        ("\"status\": \"fail\"", "", "status"), ("\"pr\": \"2\"", "PR: 1\n", "pull request"),
        ("\"commit\": \"1234567\"", "Commit: 7654321\n", "commit"), ("\"tests\": \"none\"", "Tests: all\n", "tests"),
    ]) func `two forms that contradict each other are refused`(_ json: String, _ text: String, _ what: String) throws {
        let base = json.contains("status") ? fields.replacing("\"status\": \"ok\"", with: json) : "\(fields), \(json)"
        let error = refusal { try read(text: head + text, json: "{\(base)}") }
        #expect(error?.kind == .contradictory)
        #expect(error?.message.contains(what) == true)
    }

    @Test func `a form that is wrong is not passed over for the other`() throws {
        #expect(refusal { try read(text: head, json: "{") }?.kind == .malformed)
    }

    @Test(arguments: [
        ("org/repo#7", "2026-02-14-backend-0002"), ("org/repo#8", "2026-02-14-backend-0001"), ("local#7", "x"),
    ]) func `the result of another run is stale in both forms`(_ issue: String, _ run: String) throws {
        let text = refusal { try read(text: "IssueRef: \(issue)\nRunId: \(run)\nStatus: ok\n") }
        #expect(text?.kind == .stale && text?.message.contains(run) == true)
        try FileManager.default.removeItem(atPath: pack.textResultPath)
        let json = refusal {
            try read(json: "{\"issue_ref\": \"\(issue)\", \"run_id\": \"\(run)\", \"status\": \"ok\"}")
        }
        #expect(json?.kind == .stale)
    }

    @Test(arguments: [
        ("", "IssueRef"), ("\n" + head, "IssueRef"), ("just text", "no header line"),
        (head + "Colour: red\n", "no header \"Colour\""),
        (head + "Status: ok\n", "twice"), (head + "STATUS: fail\n", "twice"),
        (head.replacing("Status: ok", with: "Status: OK"), "one of ok, fail, blocked"),
        (head.replacing("Status: ok", with: "Status:"), "one of ok, fail, blocked"),
        (head.replacing("Status: ok\n", with: ""), "Status"),
        (head.replacing("org/repo#7", with: "org/repo"), "IssueRef"),
        (head.replacing("2026-02-14-backend-0001", with: "../x"), "RunId"), (head + "Commit: HEAD\n", "hexadecimal"),
        (head + "Commit: 123456\n", "hexadecimal"), (head + "Tests: a\u{1B}[2Jb\n", "control characters"),
        (head + "Tests: a\rTrigger: b\n", "control characters"), (head + "PR: a\u{2028}b\n", "control characters"),
        (head + "PR: \(String(repeating: "x", count: 1001))\n", "1000 bytes"), ("\u{FEFF}" + head, "no header"),
        (head + " folded\n", "no header line"),
    ]) func `a text form that is not exact is refused`(_ text: String, _ message: String) throws {
        let error = refusal { try read(text: text) }
        #expect(error?.kind == .malformed && error?.message.contains(message) == true, "\(String(describing: error))")
        #expect(error?.message.contains(pack.textResultPath) == true)
    }

    @Test(arguments: [
        ("", "not one JSON object"), ("[]", "not one JSON object"), ("{\(fields)", "not one JSON object"),
        ("{\(fields)} x", "not one JSON object"), ("{\(fields), \"pr\": 12}", "\"pr\" is no text"),
        ("{\(fields), \"text\": [\"a\"]}", "\"text\" is no text"),
        ("{\(fields), \"colour\": \"red\"}", "no key \"colour\""),
        ("{\(fields), \"status\": \"fail\"}", "\"status\" stands there twice"),
        ("{\(fields), \"st\\u0061tus\" : \"fail\"}", "\"status\" stands there twice"),
        ("{\(fields), \"text\": \"a\\u0000b\"}", "NUL"),
        ("{\(fields), \"tests\": \"a\\nTrigger: b\"}", "control characters"),
        ("{\"issue_ref\": \"org/repo#7\", \"status\": \"ok\"}", "run_id"),
        (String(repeating: "[", count: 100_000), "not one JSON object"),
    ]) func `a JSON form that is not exact is refused`(_ json: String, _ message: String) throws {
        let error = refusal { try read(json: json) }
        #expect(error?.kind == .malformed && error?.message.contains(message) == true, "\(String(describing: error))")
    }

    @Test func `a colon, a quote or a key in a text is no second key`() throws {
        let result = try read(json: "{\(fields), \"tests\": \"\\\"status\\\": \\\\\", \"text\": \"status\"}")
        #expect(result?.tests == "\"status\": \\")
    }

    @Test(arguments: [
        "ln -s /etc/passwd", "ln -s nowhere", "mkfifo", "mkdir", "truncate -s 1048577", "printf 'Status: \\377' >",
        "printf 'a\\0b' >", "ln -s work_order.json",
    ]) func `a result that is no plain small text file is refused without waiting`(_ command: String) async throws {
        for name in ["work_result.txt", "work_result.json"] {
            try await shell("\(command) \(name)", in: pack.directory)
            let error = refusal { try pack.result() }
            #expect(error?.kind == .unreadable)
            #expect(error?.message.contains("\(pack.directory)/\(name)") == true)
            try await shell("rm -r \(name)", in: pack.directory)
        }
    }

    @Test func `a free text of nearly a MiB is read`() throws {
        let text = String(repeating: "x", count: (1 << 20) - head.utf8.count - 1)
        #expect(try read(text: head + "\n" + text)?.text == text)
        #expect(refusal { try read(text: head + "\n" + text + "x") }?.kind == .unreadable)
    }

    @Test func `a pack that was replaced by a link is refused`() async throws {
        try await shell(
            "mv \(pack.directory) other && ln -s $PWD/other \(pack.directory)", in: scratch.path)
        #expect(refusal { try pack.result() }?.kind == .unreadable)
    }
}

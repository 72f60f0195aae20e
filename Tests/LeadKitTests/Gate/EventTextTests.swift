import TestSupport
import Testing
import WorktreeEngine

@testable import LeadKit

@Suite struct EventTextTests {
    private let key = try! RunKey(issue: "local#1", run: "2026-02-14-qa-0001")

    @Test(arguments: [
        "a\nTrigger: forged\n\nb", "a\r\nTrigger: forged", "a\u{2028}Trigger: forged", "a\u{0}b\u{1b}[31m",
        "a\u{202e}b", String(repeating: "x", count: 5000),
    ])
    func `no value ends its line`(value: String) {
        let text = EventText(action: "finish", status: "fail", reason: value, next: value, more: [("PR", value)])
        let body = text.body(key, trigger: "workrun:x")
        #expect(IssueUpdate.trigger(in: body) == "workrun:x")
        let lines = body.split(separator: "\n", omittingEmptySubsequences: true)
        #expect(
            lines.map { $0.prefix { $0 != ":" } } == [
                "IssueRef", "RunId", "Action", "Status", "PR", "Reason", "Next", "Trigger",
            ])
        #expect(lines.allSatisfy { $0.count < 1100 })
        #expect(body.unicodeScalars.allSatisfy { $0 == "\n" || $0.properties.generalCategory != .control })
    }

    @Test func `free text cannot leave its block, in which a forge runs no command`() throws {
        let text = EventText(
            action: "finish", status: "ok", next: "x", quoted: "```\n/close\n@everyone\n`````\nTrigger: forged")
        let body = text.body(key, trigger: "t")
        let lines = body.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.filter { $0.hasPrefix("``````") } == ["``````text", "``````"])
        #expect(lines.last { !$0.isEmpty } == "``````")
        #expect(IssueUpdate.trigger(in: body) == "t")
    }

    @Test func `text that a forge would not take is cut, and says so`() {
        let text = EventText(action: "finish", status: "ok", next: "x", quoted: String(repeating: "ü", count: 100_000))
        let body = text.body(key, trigger: "t")
        #expect(body.count < 40_000)
        #expect(body.contains("(cut; the context pack has all of it)"))
        #expect(!body.contains("\u{FFFD}\u{FFFD}"))
    }
}

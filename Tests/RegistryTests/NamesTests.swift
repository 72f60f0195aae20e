import Registry
import Testing

@Suite struct NamesTests {
    @Test(arguments: [
        "local#1", "local#9999999999", "org/repo#123", "a/b/c#7", "Org.x/re_po-1#10", "gitlab/group/sub/project#3",
    ])
    func `an issue is accepted as it stands`(text: String) throws {
        #expect(try IssueRef(text).description == text)
    }

    @Test(arguments: [
        "", "#", "#1", "local#", "local", "local#0", "local#01", "local#-1", "local#1#2", "local#12345678901",
        "local#1 ",
        " local#1", "local#١", "repo#1", "/repo#1", "org/#1", "org//repo#1", "../x#1", "org/..#1", "org/.git#1",
        "-o/r#1",
        "org/-r#1", "org/a..b#1", "org/r.lock#1", "org/r.#1", "o rg/r#1", "org/r\n#1", "org/r#1\n", "org\\r#1",
        "örg/r#1",
        "org/r\0#1", "org/r~#1", "org/r^#1", "org/r:#1", "org/a+b#1", "org/@{#1", "LOCAL#1",
    ])
    func `an issue of another form is refused`(text: String) {
        #expect(throws: InvalidName.self) { try IssueRef(text) }
    }

    @Test func `an issue has at most 200 bytes`() {
        let segment = String(repeating: "a", count: 98)
        #expect(throws: Never.self) { try IssueRef("\(segment)/\(segment)#1") }
        #expect(throws: InvalidName.self) { try IssueRef("\(segment)/\(segment)aaa#1") }
    }

    @Test func `no two issues share a path component, and none leaves its directory`() throws {
        let segments = ["a", "b", "a.b", "a-b", "a_b", "local", "A"]
        var texts: [String] = ["local#1", "local#11"]
        for first in segments {
            for second in segments {
                for number in ["1", "11"] {
                    texts.append("\(first)/\(second)#\(number)")
                    texts.append("\(first)/\(second)/a#\(number)")
                }
            }
        }
        let components = try texts.map { try IssueRef($0).pathComponent }
        #expect(Set(components).count == Set(texts).count)
        #expect(components.allSatisfy { !$0.contains("/") && !$0.hasPrefix(".") && !$0.contains("#") })
    }

    @Test(arguments: [
        ("2026-02-14-backend-0001", "backend"), ("2026-02-14-qa-1", "qa"), ("2026-02-14-front-end-12", "front-end"),
        ("2026-02-14-backend-", nil), ("2026-02-14--1", nil), ("2026-2-14-backend-1", nil), ("anything", nil),
        ("2026-02-14-backend", nil), ("2026-02-14-backend-x1", nil), ("2026-02-14-.x-1", nil),
    ])
    func `a run id names its role when it has the usual form`(text: String, role: String?) throws {
        #expect(try RunID(text).role?.description == role)
    }

    @Test(arguments: [
        "", ".", "..", ".x", "-x", "a/b", "a b", "a\n", "ä", "a\0b", "a#b", "a+b", String(repeating: "a", count: 129),
    ])
    func `a run id that is no safe name is refused`(text: String) {
        #expect(throws: InvalidName.self) { try RunID(text) }
    }

    @Test(arguments: ["a", "0", "_", "a..b", "A.b-c_d", String(repeating: "a", count: 128)])
    func `a run id may be any safe name`(text: String) throws {
        #expect(try RunID(text).description == text)
    }

    @Test func `a refusal names the value and what would do`() {
        do {
            _ = try RunKey(issue: "bad", run: "x")
            Issue.record("accepted")
        } catch {
            #expect(error.description.contains("\"bad\""))
            #expect(error.description.contains("local#12"))
        }
    }
}

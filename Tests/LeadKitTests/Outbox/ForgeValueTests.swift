import Foundation
import NIOHTTP1
import Testing

@testable import LeadKit

/// What is read out of headers and texts, without a server.
@Suite struct ForgeValueTests {
    private func response(_ headers: HTTPHeaders, _ body: String = "") -> ForgeResponse {
        ForgeResponse(status: 200, headers: headers, body: Data(body.utf8))
    }

    @Test func `the next page is the one whose relation says so`() {
        #expect(response([:]).nextPage == nil)
        #expect(response(["Link": "<https://a/1>; rel=\"prev\", <https://a/9>; rel=\"last\""]).nextPage == nil)
        #expect(
            response(["Link": "<https://a/1>; rel=\"prev\", <https://a/3?x=1,2&y=next>; rel=\"next\", <https://a/9>"])
                .nextPage == "https://a/3?x=1,2&y=next")
        #expect(response(["link": "<https://a/3>;rel=next"]).nextPage == "https://a/3")
        #expect(
            response(["Link": "<https://a/9>; rel=last", "Link": "<https://a/2>; rel=\"next\""]).nextPage
                == "https://a/2")
        #expect(response(["Link": "<https://a/2>; title=\"rel=next-to\"; rel=\"last\""]).nextPage == nil)
        for broken in ["<https://a/2; rel=\"next\"", "https://a/2>; rel=\"next\"", ">;<", "<>"] {
            #expect(response(["Link": broken]).nextPage == nil, "\(broken)")
        }
    }

    @Test func `a wait is as long as the forge says, and never more than an hour`() {
        let hour = Duration.seconds(3600)
        #expect(response([:]).requestedWait == nil)
        #expect(response(["Retry-After": "0"]).requestedWait == .zero)
        #expect(response(["Retry-After": "99999999999"]).requestedWait == hour)
        for nonsense in ["-1", "soon", "", "1.5", "nan", "9999999999999999999999"] {
            #expect(response(["Retry-After": nonsense]).requestedWait == nil, "\(nonsense)")
        }
        let date = "Sun, 06 Nov 1994 08:49:37 GMT"
        #expect(response(["Date": date, "Retry-After": "Sun, 06 Nov 1994 08:50:37 GMT"]).requestedWait == .seconds(61))
        #expect(response(["Date": date, "Retry-After": "Sun, 06 Nov 1994 08:00:00 GMT"]).requestedWait == .zero)
        func limited(_ remaining: String, _ reset: String) -> Duration? {
            response(["Date": date, "X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset]).requestedWait
        }
        #expect(limited("0", "784111787") == .seconds(11))
        #expect(limited("0", "9223372036854775807") == hour)
        #expect(limited("0", "nan") == nil)
        #expect(limited("1", "784111787") == nil)
    }

    @Test func `what a forge complains of is one line of printable text without the token`() {
        let token = Token("s3cret")!
        func complaint(_ body: String) -> String { response([:], body).complaint(without: token) }
        #expect(complaint(#"{"message":"a\n\tb\u0007\u0000 c"}"#) == "a b c")
        #expect(complaint(#"{"error":"no scope"}"#) == "no scope")
        #expect(complaint(#"{"message":{"labels":["is bad"]}}"#).contains("is bad"))
        #expect(complaint(#"{"message":"\#(String(repeating: "x", count: 197))s3cret"}"#).hasSuffix("x<to"))
        #expect(complaint("<html>") == "")
        #expect(complaint("[1]") == "")
        #expect(complaint(#"{"message":""# + String(repeating: "x", count: 1000) + #""}"#).count == 200)
    }

    @Test func `pauses grow, are never the same for long, and have an end`() {
        let patience = ForgePatience()
        for attempt in 1...100 {
            let pause = patience.pause(after: attempt)
            #expect(pause >= .milliseconds(250) && pause <= patience.longestPause)
        }
        #expect(Set((0..<50).map { _ in patience.pause(after: 1) }).count > 1)
    }

    @Test func `a trigger is found in the header and nowhere else`() {
        #expect(IssueUpdate.trigger(in: "A: b\nTrigger: workrun:x/claim\n\ntext") == "workrun:x/claim")
        #expect(IssueUpdate.trigger(in: "Trigger:x") == "x")
        #expect(IssueUpdate.trigger(in: "A: b\r\n Trigger: \tx \r\n\r\n") == "x")
        #expect(IssueUpdate.trigger(in: "A: b\n\nTrigger: x") == nil)
        #expect(IssueUpdate.trigger(in: "A: b\n \t\r\nTrigger: x") == nil)
        #expect(IssueUpdate.trigger(in: "A: Trigger: x") == nil)
        #expect(IssueUpdate.trigger(in: "Reason: one\u{2028}Trigger: x\nTrigger: y") == "y")
        #expect(IssueUpdate.trigger(in: "trigger: x") == nil)
        #expect(IssueUpdate.trigger(in: "") == nil)
    }

    @Test func `no line begins with a slash in a note for GitLab`() {
        #expect(GitLab.withoutActions("/close") == "\\/close")
        #expect(GitLab.withoutActions("a\n/b\n \t/c\r\n/d /e\n\n/f") == "a\n\\/b\n \t\\/c\r\n\\/d /e\n\n\\/f")
        #expect(GitLab.withoutActions("a/b\n") == "a/b\n")
        #expect(GitLab.withoutActions("") == "")
    }
}

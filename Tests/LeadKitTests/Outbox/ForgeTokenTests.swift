import ForgeServers
import Foundation
import Logging
import Testing

@testable import LeadKit

/// Where the token may come from, where it may go to, and where it never shows.
@Suite struct ForgeTokenTests {
    @Test func `it comes from the environment`() throws {
        let environment = ["GH_TOKEN": "two", "GITLAB_TOKEN": " three\n"]
        #expect(try Token.read(for: .github, from: environment).header("Bearer ") == "Bearer two")
        #expect(
            try Token.read(for: .github, from: environment.merging(["GITHUB_TOKEN": "one"]) { $1 }).header() == "one")
        #expect(
            try Token.read(for: .github, from: environment.merging(["GITHUB_TOKEN": ""]) { $1 }).header() == "two")
        #expect(try Token.read(for: .gitlab, from: environment).header() == "three")
    }

    @Test(arguments: ForgeKind.allCases) func `without one there is no outbox`(_ kind: ForgeKind) async throws {
        let error = try await outboxError { _ = try Token.read(for: kind, from: ["OTHER": "x"]) }
        #expect(error?.kind == .refused)
        #expect(error?.message.contains(kind == .github ? "GITHUB_TOKEN or GH_TOKEN" : "GITLAB_TOKEN") == true)
    }

    @Test(arguments: ["two words", "line\r\nX-Header: x", "ü", "\u{7F}"])
    func `what could not stand in a header is refused, and not shown`(_ text: String) async throws {
        let error = try #require(await outboxError { _ = try Token.read(for: .gitlab, from: ["GITLAB_TOKEN": text]) })
        #expect(error.kind == .refused)
        #expect(!error.message.contains(text))
    }

    @Test func `nothing that describes it shows it`() {
        let token = Token("s3cret")!
        var dumped = ""
        dump(token, to: &dumped)
        for text in ["\(token)", String(reflecting: token), String(describing: Optional(token)), dumped] {
            #expect(!text.contains("s3cret"))
        }
        #expect(token.removed(from: "header s3cret was bad") == "header <token> was bad")
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `it shows in no log line and in no error`(_ kind: FakeForge.Kind) async throws {
        var patience = ForgePatience()
        patience.attempts = 2
        let fixture = try await ForgeFixture(kind, patience: patience)
        let (_, ref) = fixture.openTodo()
        var said: [String] = []
        for failure in [
            FakeForge.Failure.status(401, message: "bad token \(FakeForge.token)"), .drop, .garbage,
            .status(500, message: "your token is \(FakeForge.token)"), .status(403), .status(422), .status(404),
            .status(302, headers: ["Location": "http://127.0.0.1:1/?private_token=\(FakeForge.token)"]),
            .answer(200, headers: ["Link": "<http://evil.example/\(FakeForge.token)>; rel=\"next\""], body: "[]"),
            .answer(200, headers: [:], body: FakeForge.token),
        ] {
            fixture.forge.fail(failure, times: .max)
            for error in [
                try await outboxError { _ = try await fixture.outbox.issues(labelled: ["x"], assignedTo: "a") },
                try await outboxError { try await fixture.outbox.apply(fixture.update(ref)) },
            ] {
                let error = try #require(error, "\(failure)")
                var dumped = ""
                dump(error, to: &dumped)
                said += [error.description, String(reflecting: error), dumped]
            }
            fixture.forge.recover()
        }
        try await fixture.outbox.apply(fixture.update(ref))
        let lines = fixture.log.all
        #expect(lines.count > 10, "there is a log to look at")
        for text in said + lines { #expect(!text.contains(FakeForge.token)) }
        #expect(
            fixture.forge.requests.allSatisfy {
                !$0.target.contains(FakeForge.token) && !$0.body.contains(FakeForge.token)
            })
    }

    @Test(arguments: [
        "http://127.0.0.1:8080", "http://127.1.2.3/api", "http://localhost:1", "http://[::1]:2",
        "https://git.example.com",
        "https://git.example.com:8443/api/v4/", "HTTPS://git.example.com",
    ])
    func `it goes to https, and to http on loopback`(_ url: String) throws {
        #expect(try ForgeAddress(url).url(["user"]).hasSuffix("/user"))
    }

    @Test(arguments: [
        "http://git.example.com", "http://127.example.com", "http://127.0.0.1.example.com", "http://0.0.0.0",
        "http://10.0.0.1", "http://localhost.example.com", "http://2130706433", "http://127.0.0.1@example.com",
        "https://user:password@git.example.com", "https://git.example.com/?x=1", "https://git.example.com/#x",
        "ftp://git.example.com", "git.example.com", "https://", "",
    ])
    func `it goes nowhere else`(_ url: String) async throws {
        let error = try await outboxError { _ = try ForgeAddress(url) }
        #expect(error?.kind == .refused)
        #expect(error?.message.contains("password") == false)
    }

    @Test func `another server is told from the same one`() throws {
        let address = try ForgeAddress("https://git.example.com/api/v4")
        for same in ["https://git.example.com/x", "https://GIT.example.com:443/api/v4/y?page=2"] {
            #expect(address.serves(same))
        }
        for other in [
            "http://git.example.com/x", "https://git.example.com:444/x", "https://example.com/x", "/x", "",
            "https://git.example.com@example.com/x", "https://user@git.example.com/x",
            "https://git.example.com.example.com",
        ] {
            #expect(!address.serves(other), "\(other)")
        }
    }
}

import Foundation
import LeadKit
import TestSupport
import Testing

/// What a profile is refused for, and where.
@Suite struct ProfileProblemTests {
    @Test func `a valid profile has none`() async throws {
        let fixture = try await ProfileFixture()
        #expect(try fixture.problems(ProfileFixture.valid) == [])
        #expect(try fixture.problems(ProfileFixture.valid.replacing("\n", with: "\r\n")) == [])
    }

    @Test func `all of them are found at once, in the order of lines`() async throws {
        let fixture = try await ProfileFixture()
        let found = try fixture.problems(
            """
            # Everything wrong.
            colour = "red"
            [outbox]
            backend = "sqlite"
            repo = "org/repo"
            [repos]
            app = "../nothing"
            [role_repo]
            backend = "app"
            qa = "application"
            [groups.backend]
            role = "backend"
            max_concurrent = 0
            listen_labels = []
            [groups.qa]
            role = "qa"
            listen_labels = ["role:qa"]
            [roles]
            enabled = ["backend", "docs"]
            [labels]
            done = "state:todo"
            [workdir]
            include = ["../secret"]
            """)
        let places = found.map { $0.split(separator: ":").prefix(2).joined(separator: ":") }
        #expect(places == ["2:1", "3:2", "5:1", "7:1", "10:1", "13:1", "14:1", "19:12", "19:23", "21:1", "23:12"])
        for (text, part) in zip(
            found,
            [
                "colour: no such key", "outbox.path is missing", "outbox.repo: does not go with", "does not exist",
                "no repository \"application\"", "from 1 to 256", "not empty",
                "the role backend is enabled, but no group",
                "the role docs is enabled, but no group", "the label of todo too", "leads out of the repository",
            ])
        {
            #expect(text.contains(part), "\(text)")
        }
    }

    /// Each replaces a part of the valid profile.
    @Test(arguments: [
        // [outbox]
        ("backend = \"sqlite\"", "backend = \"jira\"", "2:1: outbox.backend: \"jira\" is not accepted"),
        ("backend = \"sqlite\"", "backend = 1", "2:1: outbox.backend: integer 1 is not accepted"),
        ("backend = \"sqlite\"", "", "1:2: outbox.backend is missing"),
        ("path = \"outbox.sqlite\"", "", "1:2: outbox.path is missing"),
        ("path = \"outbox.sqlite\"", "path = \"\"", "3:1: outbox.path"),
        ("path = \"outbox.sqlite\"", "path = \"a\"\nurl = \"https://x\"", "4:1: outbox.url: does not go with"),
        ("\"sqlite\"", "\"github\"", "1:2: outbox.repo is missing"),
        ("\"sqlite\"", "\"github\"", "3:1: outbox.path: does not go with backend = \"github\""),
        ("\"sqlite\"\npath = \"outbox.sqlite\"", "\"github\"\nrepo = \"a/b/c\"", "3:1: outbox.repo: \"a/b/c\""),
        ("\"sqlite\"\npath = \"outbox.sqlite\"", "\"github\"\nrepo = \"repo\"", "3:1: outbox.repo: \"repo\""),
        ("\"sqlite\"\npath = \"outbox.sqlite\"", "\"gitlab\"\nrepo = \"a/../b\"", "3:1: outbox.repo: \"a/../b\""),
        (
            "\"sqlite\"\npath = \"outbox.sqlite\"", "\"gitlab\"\nrepo = \"a/b\"\nurl = \"ftp://x/y\"",
            "4:1: outbox.url: \"ftp://x/y\" is not accepted"
        ),
        (
            "\"sqlite\"\npath = \"outbox.sqlite\"", "\"gitlab\"\nrepo = \"a/b\"\nurl = \"http://x/y\"",
            "would send the token unencrypted"
        ),
        (
            "\"sqlite\"\npath = \"outbox.sqlite\"", "\"gitlab\"\nrepo = \"a/b\"\nurl = \"http://127.example.com\"",
            "would send the token unencrypted"
        ),
        (
            "\"sqlite\"\npath = \"outbox.sqlite\"", "\"gitlab\"\nrepo = \"a/b\"\nurl = \"https://x/y?z=1\"",
            "4:1: outbox.url"
        ),
        // [repos], [role_repo]
        ("app = \"../app\"", "app = \"../plain\"", "5:1: repos.app: "),
        ("app = \"../app\"", "app = [1]", "5:1: repos.app"),
        ("app = \"../app\"", "app = \"../app/sub\"", "is not the top of a git repository"),
        ("app = \"../app\"", "", "4:2: repos: there is no repository in it"),
        ("backend = \"app\"", "backend = \"App\"", "7:1: role_repo.backend: there is no repository \"App\""),
        ("backend = \"app\"", "\"a b\" = \"app\"", "7:1: role_repo.\"a b\": role"),
        // [groups], [roles]
        ("backend = \"app\"", "", "10:1: groups.backend.role: the role backend has no repository"),
        ("role = \"backend\"", "", "9:9: groups.backend.role is missing"),
        ("role = \"backend\"", "role = \"-x\"", "10:1: groups.backend.role: role \"-x\" is not valid"),
        ("role = \"backend\"", "role = \"backend\"\nmax_concurrent = 257", "11:1: groups.backend.max_concurrent"),
        ("role = \"backend\"", "role = \"backend\"\nmax_concurrent = \"2\"", "11:1: groups.backend.max_concurrent"),
        ("role = \"backend\"", "role = \"backend\"\ntimeout = \"0m\"", "11:1: groups.backend.timeout"),
        ("role = \"backend\"", "role = \"backend\"\ntime_out = \"1m\"", "11:1: groups.backend.time_out: no such key"),
        ("listen_labels = [\"role:backend\"]", "", "9:9: groups.backend.listen_labels is missing"),
        ("[\"role:backend\"]", "\"role:backend\"", "11:1: groups.backend.listen_labels: "),
        ("[\"role:backend\"]", "[\"a\", 2]", "11:23: groups.backend.listen_labels[1]: integer 2"),
        (
            "[\"role:backend\"]", "[\"a\",\n  \"state:todo\"]",
            "12:3: groups.backend.listen_labels[1]: \"state:todo\" is a label"
        ),
        ("[\"role:backend\"]", "[\"a\", \"Needs-Human\"]", "11:23: groups.backend.listen_labels[1]: \"Needs-Human\""),
        ("[\"role:backend\"]", "[\"a,b\"]", "without commas"),
        ("[\"role:backend\"]", "[\"a\", \"a\"]", "stands there twice"),
        ("[\"backend\"]", "[\"backend\", \"backend\"]", "13:23: roles.enabled[1]: the role backend stands there twice"),
        ("[\"backend\"]", "[\"backend\", \"qa\"]", "13:23: roles.enabled[1]: the role qa is enabled, but no group"),
        ("[\"backend\"]", "\"backend\"", "13:1: roles.enabled"),
        ("enabled = [\"backend\"]", "", "12:2: roles.enabled is missing"),
        (
            "[roles]", "[groups.more]\nrole = \"backend\"\nlisten_labels = [\"x\", \"role:backend\"]\n[roles]",
            "12:9: groups.more: takes the same issues as the group \"backend\""
        ),
    ]) func `a part that is wrong is named with its place`(_ part: String, _ other: String, _ message: String)
        async throws
    {
        let fixture = try await ProfileFixture()
        let text = try #require(ProfileFixture.valid.range(of: part))
        let changed = ProfileFixture.valid.replacingCharacters(in: text, with: other)
        let found = try fixture.problems(changed)
        #expect(found.contains { $0.contains(message) }, "\(found)")
    }

    /// Each is added to the valid profile, whose last line is 13.
    @Test(arguments: [
        ("[labels]\ntodo = \"a,b\"", "15:1: labels.todo"), ("[labels]\ntodo = \" a\"", "15:1: labels.todo"),
        ("[labels]\ntodo = \"\(String(repeating: "x", count: 51))\"", "at most 50 characters"),
        ("[labels]\ndoing = \"State:Todo\"", "15:1: labels.doing: \"State:Todo\" is the label of todo too"),
        ("[labels]\ntodo = \"x\"\ndone = \"x\"", "16:1: labels.done: \"x\" is the label of todo too"),
        ("[labels]\nneeds_human = \"state:done\"", "15:1: labels.needs_human: \"state:done\" is the label of done too"),
        ("[labels]\ntodo = \"needs-human\"", "15:1: labels.todo: \"needs-human\" is the label of needs_human too"),
        ("[labels]\nwaiting = \"x\"", "15:1: labels.waiting: no such key"),
        ("[workdir]\ninclude = [\"/etc/passwd\"]", "15:12: workdir.include[0]: \"/etc/passwd\" is absolute"),
        ("[workdir]\ninclude = [\"a/../../b\"]", "leads out of the repository"),
        ("[workdir]\ninclude = [\"a\", \".GIT/config\"]", "15:17: workdir.include[1]: \".GIT/config\" lies in .git"),
        ("[workdir]\ninclude = [\"sub/.git/hooks/x\"]", "lies in .git"),
        ("[workdir]\ninclude = [\"a//b\"]", "a part that is empty"), ("[workdir]\ninclude = [\"./a\"]", "a dot"),
        ("[workdir]\ninclude = [\"a\", \"a\"]", "stands there twice"),
        ("[workdir]\ninclude = \".env\"", "15:1: workdir.include"),
        ("[workdir]\nbranch.template = \"run/{run}\"", "15:8: workdir.branch.template: \"run/{run}\" has no {issue}"),
        ("[workdir]\nbranch.template = \"{issue} {run}\"", "makes no valid branch name"),
        ("[workdir]\nbranch.template = \"{issue}/{run}.lock\"", "makes no valid branch name"),
        ("[workdir]\nbranch.template = \"{issue}/{run}/{who}\"", "with the placeholders"),
        ("[workdir]\nroots = \"/srv\"", "15:1: workdir.roots"),
        ("[workdir]\nroots = [\"../app\", \"../absent\"]", "outbox/../absent does not exist. Make or mount it"),
        ("[workdir]\npool.size = -1", "15:6: workdir.pool.size"),
        ("[workdir]\ncolour = 1", "15:1: workdir.colour: no such key. Known in [workdir]: roots,"),
        ("[workdir.limits]\nper_rol = 1", "15:1: workdir.limits.per_rol: no such key"),
        ("[[workdir]]", "a table: [workdir]"),
    ]) func `an optional table that is wrong is named with its place`(_ more: String, _ message: String) async throws {
        let fixture = try await ProfileFixture()
        let found = try fixture.problems(ProfileFixture.valid + more)
        #expect(found.count == 1 && found[0].contains(message), "\(found)")
    }

    @Test func `files of a bare repository, which has no main worktree, are refused`() async throws {
        let fixture = try await ProfileFixture()
        let text = ProfileFixture.valid.replacing("\"../app\"", with: "\"../bare.git\"")
        #expect(try fixture.problems(text) == [])
        let found = try fixture.problems(text + "[workdir]\ninclude = [\".env\"]")
        #expect(found.count == 1 && found[0].contains("15:1: workdir.include: the repository app is bare"), "\(found)")
    }

    @Test func `tables that are missing are named`() async throws {
        let fixture = try await ProfileFixture()
        let found = try fixture.problems("")
        #expect(found.map { String($0.prefix { $0 != " " }) } == Array(repeating: "1:1:", count: 5))
        for name in ["outbox", "repos", "role_repo", "groups", "roles"] {
            #expect(found.contains { $0.contains(" \(name) is missing") })
        }
    }

    @Test func `a user or password in an address is refused and not repeated`() async throws {
        let fixture = try await ProfileFixture()
        let text = ProfileFixture.valid.replacing(
            "\"sqlite\"\npath = \"outbox.sqlite\"",
            with: "\"gitlab\"\nrepo = \"a/b\"\nurl = \"https://me:s3cret@x/y\"")
        let found = try fixture.problems(text)
        #expect(found.count == 1 && found[0].contains("user or password") && !found[0].contains("s3cret"))
    }

    @Test func `http is accepted to loopback`() async throws {
        let fixture = try await ProfileFixture()
        for host in ["127.0.0.1:8080", "localhost:1", "[::1]:9"] {
            let text = ProfileFixture.valid.replacing(
                "\"sqlite\"\npath = \"outbox.sqlite\"",
                with: "\"github\"\nrepo = \"a/b\"\nurl = \"http://\(host)\"")
            #expect(try fixture.problems(text) == [])
        }
    }

    @Test func `git agrees on what is a branch name`() async throws {
        let fixture = try await ProfileFixture()
        let templates = [
            "{issue}/{run}", "a/{issue}-{run}", "-{issue}{run}", "{issue}/{run}.", "{issue}/{run}/", "/{issue}{run}",
            "{issue}//{run}", "{issue}..{run}", ".x/{issue}{run}", "x/.y/{issue}{run}", "{issue}{run}.lock",
            "a.lock/{issue}{run}", "{issue}~{run}", "{issue}^{run}", "{issue}:{run}", "{issue}?{run}", "{issue}*{run}",
            "{issue}[{run}", "{issue}\\{run}", "{issue}@{run}", "{issue}é{run}", "{issue}\u{7F}{run}", "{issue}\t{run}",
        ]
        for template in templates {
            let name = template.replacing("{issue}", with: "local#1").replacing("{run}", with: "2026-02-14-qa-0001")
            let says = try? await git("check-ref-format", "--branch", name, in: fixture.scratch.path)
            let escaped = template.replacing("\\", with: "\\\\").replacing("\u{7F}", with: "\\u007F")
            let text = ProfileFixture.valid + "[workdir]\nbranch.template = \"\(escaped)\"\n"
            #expect(try fixture.problems(text).isEmpty == (says != nil), "\(template)")
        }
    }
}

import Foundation
import LeadKit
import Registry
import TestSupport
import Testing
import WorktreeEngine

/// A directory with a workflow.toml beside a repository `app` and a bare one, `bare.git`.
struct ProfileFixture {
    let scratch: Scratch
    var path: String { "\(scratch.path)/outbox/workflow.toml" }

    init() async throws {
        scratch = try Scratch()
        try await shell(
            "git init -q app; git init -q --bare bare.git; mkdir -p outbox app/sub plain; git init -q outbox",
            in: scratch.path)
    }

    func load(_ text: String) throws -> Profile {
        try write(TestFile("outbox/workflow.toml", text), in: scratch.path)
        return try Profile.load(path, state: "\(scratch.path)/state")
    }

    /// What is wrong with a text, as `line:column: text`.
    func problems(_ text: String) throws -> [String] {
        do {
            _ = try load(text)
            return []
        } catch let error as ProfileError {
            #expect(!error.problems.isEmpty)
            return error.problems.map { problem in
                #expect(problem.description.hasPrefix(path))
                return String(problem.description.dropFirst(path.count + 1))
            }
        }
    }

    static let valid = """
        [outbox]
        backend = "sqlite"
        path = "outbox.sqlite"
        [repos]
        app = "../app"
        [role_repo]
        backend = "app"
        qa = "app"
        [groups.backend]
        role = "backend"
        listen_labels = ["role:backend"]
        [roles]
        enabled = ["backend"]

        """
}

@Suite struct ProfileTests {
    @Test func `a whole profile is read`() async throws {
        let fixture = try await ProfileFixture()
        try FileManager.default.createDirectory(
            atPath: "\(fixture.scratch.path)/roots", withIntermediateDirectories: true)
        let profile = try fixture.load(
            """
            [outbox]
            backend = "gitlab"
            repo = "group/sub/project"
            url = "https://git.example.org/api/v4/"
            [repos]
            app = "../app"
            bare = "\(fixture.scratch.path)/bare.git"
            [role_repo]
            backend = "app"
            qa = "bare"
            [groups.api]
            role = "backend"
            max_concurrent = 4
            listen_labels = ["role:backend", "area:api"]
            timeout = "30m"
            [groups.web]
            role = "backend"
            listen_labels = ["role:backend", "area:web"]
            [groups.tests]
            role = "qa"
            listen_labels = ["role:qa"]
            [roles]
            enabled = ["backend"]
            [labels]
            todo = "status/todo"
            needs_human = "help"
            [workdir]
            roots = ["../roots", "\(fixture.scratch.path)/plain"]
            include = [".env", "config/local.json"]
            limits.per_repository = 9
            policies.ok = "immediate"
            pool.size = 2
            branch.template = "agents/{role}/{issue}/{run}"
            """)
        #expect(profile.path == fixture.path)
        #expect(
            profile.outbox
                == .forge(kind: .gitlab, repository: "group/sub/project", api: "https://git.example.org/api/v4"))
        #expect(
            profile.repositories == ["app": "\(fixture.scratch.path)/app", "bare": "\(fixture.scratch.path)/bare.git"])
        let backend = try Role("backend")
        #expect(profile.repository(of: backend) == "\(fixture.scratch.path)/app")
        #expect(profile.repository(of: try Role("qa")) == "\(fixture.scratch.path)/bare.git")
        #expect(profile.groups.map(\.name) == ["api", "web"])
        #expect(profile.idleGroups.map(\.name) == ["tests"])
        #expect(profile.groups[0].maxConcurrent == 4 && profile.groups[0].timeout == .seconds(1800))
        #expect(profile.groups[1].maxConcurrent == 1 && profile.groups[1].timeout == .seconds(3600))
        #expect(profile.groups[0].listenLabels == ["role:backend", "area:api"] && profile.groups[0].role == backend)
        #expect(profile.roles == [backend])
        #expect(profile.labels.name(of: .todo) == "status/todo" && profile.labels.name(of: .done) == "state:done")
        #expect(profile.labels.needsHuman == "help")
        #expect(profile.workdir.state == "\(fixture.scratch.path)/state")
        #expect(profile.workdir.roots == ["\(fixture.scratch.path)/roots", "\(fixture.scratch.path)/plain"])
        #expect(profile.workdir.limits.perRepository == 9 && profile.workdir.poolSize == 2)
        #expect(profile.workdir.policy(for: .ok) == .immediate)
        #expect(profile.workdir.branchTemplate == "agents/{role}/{issue}/{run}")
        #expect(profile.include == [".env", "config/local.json"])
    }

    @Test func `paths are relative to the file itself, also through a link to it`() async throws {
        let fixture = try await ProfileFixture()
        _ = try fixture.load(ProfileFixture.valid)
        try write(TestFile("elsewhere/link.toml", "../outbox/workflow.toml", .link), in: fixture.scratch.path)
        let profile = try Profile.load("\(fixture.scratch.path)/elsewhere/link.toml", state: "/state")
        #expect(profile.path == fixture.path)
        #expect(profile.outbox == .sqlite(path: "\(fixture.scratch.path)/outbox/outbox.sqlite"))
        #expect(profile.repositories == ["app": "\(fixture.scratch.path)/app"])
    }

    @Test func `the public services are the default of a forge`() async throws {
        let fixture = try await ProfileFixture()
        let sqlite = "backend = \"sqlite\"\npath = \"outbox.sqlite\""
        for (kind, api) in [(ForgeKind.github, "https://api.github.com"), (.gitlab, "https://gitlab.com/api/v4")] {
            let text = ProfileFixture.valid.replacing(
                sqlite, with: "backend = \"\(kind.rawValue)\"\nrepo = \"org/repo\"")
            #expect(try fixture.load(text).outbox == .forge(kind: kind, repository: "org/repo", api: api))
        }
    }

    @Test(arguments: ["fifo", "directory", "missing", "nul", "large", "syntax"])
    func `a file that cannot be read is one problem, which names it`(_ kind: String) async throws {
        let fixture = try await ProfileFixture()
        let make = [
            "fifo": "mkfifo", "directory": "mkdir", "missing": ": ", "nul": "printf 'a = 1\\0' >",
            "large": "truncate -s 2M", "syntax": "printf '[a\\nb' >",
        ]
        try await shell("\(make[kind]!) outbox/workflow.toml", in: fixture.scratch.path)
        let error = #expect(throws: ProfileError.self) { try Profile.load(fixture.path, state: "/state") }
        #expect(error?.problems.count == 1)
        #expect(error?.description.hasPrefix(fixture.path) == true)
        #expect((error?.problems.first?.line != nil) == (kind == "syntax"))
    }

    @Test func `a gate counts whatever its case, a state only as it is spelt`() {
        let labels = Labels(names: [.todo: "Waiting"], needsHuman: "Help")
        #expect(labels.isGated(["x", "hELP"]) && !labels.isGated(["help!"]))
        #expect(labels.state(of: "Waiting") == .todo && labels.state(of: "waiting") == nil)
        #expect(labels.state(of: "state:doing") == .doing && labels.state(of: "state:todo") == nil)
        #expect(labels.stateNames == ["Waiting", "state:doing", "state:blocked", "state:review", "state:done"])
    }
}

import ForgeServers
import Foundation
import GRDB
import LeadKit
import Logging
import TestSupport
import Testing
import WorktreeEngine

/// Where a project's issues are.
enum Backend: String, Sendable, CaseIterable, CustomTestStringConvertible {
    case sqlite, github, gitlab

    var testDescription: String { rawValue }
}

/// A project with everything that a Lead meets: an outbox with issues, a repository that was cloned from a remote (over
/// smart HTTP for a forge), a workflow.toml, and an engine.
struct Project: Sendable {
    let backend: Backend
    let scratch: Scratch
    /// The clone that workdirs are made from.
    let repository: String
    let profilePath: String
    let profile: Profile
    let engine: Engine
    let outbox: any Outbox
    private let forge: FakeForge?
    private let server: GitServer?

    static let role = "backend"

    /// - Parameters:
    ///   - group: more lines of the group.
    ///   - workdir: tables below `[workdir]`, beside a disk reserve of nothing.
    init(
        _ backend: Backend, maxConcurrent: Int = 4, group: String = "", workdir: String = "",
        limits: String = "disk_reserve = 0", files: [TestFile] = [TestFile("shared.txt", "base\n")]
    ) async throws {
        self.backend = backend
        scratch = try Scratch()
        let root = scratch.path
        // The remote, a bare repository; workers push their branches there.
        let source = try await scratch.repository("source", files)
        try FileManager.default.createDirectory(atPath: "\(root)/git/org", withIntermediateDirectories: true)
        try await git("clone", "--quiet", "--bare", source.path, "\(root)/git/org/repo.git", in: root)
        server = backend == .sqlite ? nil : try await GitServer(root: "\(root)/git")
        try await git(
            "clone", "--quiet", server?.url(of: "org/repo.git") ?? "\(root)/git/org/repo.git", "\(root)/app", in: root)
        repository = "\(root)/app"
        try await git("config", "user.name", "Worker", in: repository)
        try await git("config", "user.email", "w@example.org", in: repository)

        try FileManager.default.createDirectory(atPath: "\(root)/project", withIntermediateDirectories: true)
        switch backend {
        case .sqlite:
            forge = nil
            try SQLiteOutbox.create("\(root)/project/outbox.sqlite")
        case .github: forge = try await FakeForge(.github)
        case .gitlab: forge = try await FakeForge(.gitlab)
        }
        let settings =
            forge.map { "backend = \"\(backend.rawValue)\"\nrepo = \"org/repo\"\nurl = \"\($0.url)\"" }
            ?? "backend = \"sqlite\"\npath = \"outbox.sqlite\""
        profilePath = "\(root)/project/workflow.toml"
        try """
        [outbox]
        \(settings)
        [repos]
        app = "../app"
        [role_repo]
        backend = "app"
        [roles]
        enabled = ["backend"]
        [groups.backend]
        role = "backend"
        max_concurrent = \(maxConcurrent)
        listen_labels = ["role:backend"]
        \(group)
        [workdir.limits]
        \(limits)
        \(workdir)
        """.write(toFile: profilePath, atomically: true, encoding: .utf8)
        var profile = try Profile.load(profilePath, state: "\(root)/state")
        profile.workdir.actor = "lead-test"
        self.profile = profile
        engine = try await Engine.open(profile.workdir, logger: Self.logger)
        outbox = try profile.openOutbox(environment: Self.tokens, logger: Self.logger)
    }

    /// What fails shows as a wrong state. `WTENGINE_LOG` shows more, for a person who looks for the reason.
    static let logger: Logger = {
        var logger = Logger(label: "wtengine.test")
        logger.logLevel = Logger.Level(rawValue: ProcessInfo.processInfo.environment["WTENGINE_LOG"] ?? "") ?? .critical
        return logger
    }()

    static let tokens = ["GITHUB_TOKEN": FakeForge.token, "GITLAB_TOKEN": FakeForge.token]

    // MARK: Lead

    /// A Lead with short pauses.
    func lead(
        _ worker: String, engine: Engine? = nil, outbox: (any Outbox)? = nil, attempts: Int = 2,
        grace: Duration = .milliseconds(300)
    ) -> Lead {
        var options = Lead.Options()
        options.interval = .milliseconds(100)
        options.grace = grace
        options.attempts = attempts
        return Lead(
            profile: profile, engine: engine ?? self.engine, outbox: outbox ?? self.outbox,
            worker: WorkerScript.prelude + worker,
            options: options, logger: Self.logger)
    }

    // MARK: Issues, as people see and change them

    /// Opens an issue that waits for the Lead.
    func open(
        _ title: String = "Do it", body: String = "As said.", labels: [String] = ["role:backend", "state:todo"],
        assignee: String = "lead-\(role)"
    ) async throws -> IssueRef {
        if let forge {
            let number = forge.open(title: title, body: body, labels: labels, assignees: [assignee])
            return try IssueRef("org/repo#\(number)")
        }
        return try await database { db in
            try db.execute(
                sql: "INSERT INTO outbox_threads (title, body, assignee) VALUES (?, ?, ?)",
                arguments: [title, body, assignee])
            let thread = db.lastInsertedRowID
            for label in labels {
                try db.execute(
                    sql: "INSERT INTO outbox_thread_labels (thread_id, label) VALUES (?, ?)",
                    arguments: [thread, label])
            }
            return try IssueRef("local#\(thread)")
        }
    }

    /// The labels of an issue but the one that the group listens to.
    func labels(_ issue: IssueRef) async throws -> Set<String> {
        try await outbox.issue(issue).labels.subtracting(["role:backend"])
    }

    /// Takes labels off an issue and puts others on, by hand.
    func relabel(_ issue: IssueRef, off: [String], on: [String]) async throws {
        let number = number(issue)
        if let forge {
            forge.change(number) { issue in
                for label in off { issue.remove(label: label) }
                for label in on { issue.add(label: label) }
            }
            return
        }
        try await database { db in
            for label in off {
                try db.execute(
                    sql: "DELETE FROM outbox_thread_labels WHERE thread_id = ? AND label = ?",
                    arguments: [number, label])
            }
            for label in on {
                try db.execute(
                    sql: "INSERT OR IGNORE INTO outbox_thread_labels (thread_id, label) VALUES (?, ?)",
                    arguments: [number, label])
            }
            try db.execute(
                sql: "UPDATE outbox_threads SET updated_at = datetime('now') WHERE thread_id = ?", arguments: [number])
        }
    }

    /// The events of the Lead on an issue, oldest first.
    func events(_ issue: IssueRef) async throws -> [Event] {
        let number = number(issue)
        if let forge { return forge.events(on: number).map { Event($0) } }
        return try await database { db in
            try String.fetchAll(
                db, sql: "SELECT body FROM outbox_events WHERE thread_id = ? ORDER BY event_id", arguments: [number])
        }.map { Event($0) }
    }

    /// Cuts a forge off: it closes each connection without an answer.
    func cutOff() { forge?.fail(.drop, times: .max) }

    /// Ends that.
    func reconnect() { forge?.recover() }

    private func number(_ issue: IssueRef) -> Int { Int(issue.description.split(separator: "#")[1]) ?? 0 }

    private func database<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        // Another writer, as the people and programs beside a Lead are.
        var configuration = GRDB.Configuration()
        configuration.busyMode = .timeout(10)
        let queue = try DatabaseQueue(path: "\(scratch.path)/project/outbox.sqlite", configuration: configuration)
        return try await queue.write(body)
    }
}

/// An event as its text says.
struct Event: Sendable {
    let text: String

    init(_ text: String) { self.text = text }

    /// A header's value; nil when there is none.
    subscript(_ name: String) -> String? {
        text.split(separator: "\n", omittingEmptySubsequences: false).prefix { !$0.isEmpty }
            .first { $0.hasPrefix("\(name): ") }.map { String($0.dropFirst(name.count + 2)) }
    }

    /// The commands of the recovery path.
    var commands: [String] {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard let start = lines.firstIndex(of: "```sh") else { return [] }
        return Array(lines[(start + 1)...].prefix { $0 != "```" })
    }
}

/// What the workers of the tests have in common.
enum WorkerScript {
    /// `result STATUS`: leaves a result by one rename.
    static let prelude = """
        result() {
            printf 'IssueRef: %s\\nRunId: %s\\nStatus: %s\\nCommit: %s\\nTests: none\\n\\nDone by %s.\\n' \\
                "$WTENGINE_ISSUE" "$WTENGINE_RUN" "$1" "$(git rev-parse HEAD)" "$WTENGINE_RUN" \\
                > "$WTENGINE_CONTEXT_PACK/result.new"
            mv "$WTENGINE_CONTEXT_PACK/result.new" "$WTENGINE_CONTEXT_PACK/work_result.txt"
        }
        # until_there FILE: waits for it, a minute at most.
        until_there() { for _ in $(seq 1200); do [ -e "$1" ] && return 0; sleep 0.05; done; return 1; }

        """
}

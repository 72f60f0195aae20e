import Foundation
import Glibc
import Registry
import SystemPackage

/// What an admin entry says of its run, so that the registry can be rebuilt from disk alone. Stored as `wtengine.json`
/// in the entry, or in the `.git` directory of a clone.
struct RunRecord: Codable, Hashable, Sendable {
    static let fileName = "wtengine.json"

    var version = 1
    let issue: String
    let run: String
    let role: String
    let repo: String
    let commonDir: String
    let root: String
    let path: String
    let adminID: String
    let branch: String?
    let base: String
    let materializer: String
    let createdAt: Date

    init(_ run: Run) {
        issue = run.key.issue.description
        self.run = run.key.run.description
        role = run.role.description
        repo = run.repo
        commonDir = run.commonDir
        root = run.root
        path = run.path
        adminID = run.adminID
        branch = run.branch
        base = run.base
        materializer = run.materializer.rawValue
        createdAt = run.createdAt
    }

    /// Reads a record; nil when there is none or it is not one of ours.
    init?(in directory: borrowing Directory) {
        guard let text = (try? directory.read(Self.fileName)) ?? nil else { return nil }
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .millisecondsSince1970
        guard let record = try? decoder.decode(RunRecord.self, from: Data(text.utf8)), record.version == 1 else {
            return nil
        }
        self = record
    }

    var json: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.dateEncodingStrategy = .millisecondsSince1970
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
            return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
        }
    }

    /// Whether this is the record of the very run, not of another that took its place.
    func names(_ run: Run) -> Bool {
        issue == run.key.issue.description && self.run == run.key.run.description && path == run.path
            && adminID == run.adminID
    }
}

/// The admin entry `<common dir>/worktrees/<id>/` of a run, written by our own protocol: built aside, then renamed into
/// place, so that git never reads a half-made one. See: man gitrepository-layout (worktrees), git `builtin/worktree.c`
enum AdminEntry {
    /// Ours in the common dir: entries being built or removed.
    static let privateName = "wtengine"

    static func path(_ run: Run) -> String { "\(run.commonDir)/worktrees/\(run.adminID)" }
    static func stageName(_ run: Run) -> String { "stage-\(run.adminID)" }
    static func trashName(_ run: Run) -> String { "trash-\(run.adminID)" }

    /// The reason in the `locked` file, which also keeps `git worktree prune` and gc away.
    static func lockReason(_ run: Run) -> String {
        "wtengine \(run.key)" + (run.lockReason.map { ": \($0)" } ?? "")
    }

    /// The reason that somebody gave for keeping the workdir, read back from the `locked` file; nil when nobody did.
    static func recordedLockReason(_ run: Run) -> String? {
        let prefix = "wtengine \(run.key): "
        guard let text = (try? Directory(gitDir(run)).read("locked")) ?? nil, text.hasPrefix(prefix) else { return nil }
        return String(text.dropFirst(prefix.count).prefix { $0 != "\n" })
    }

    /// The git directory of the run's workdir.
    static func gitDir(_ run: Run) -> String {
        run.materializer == .clone ? "\(run.path)/.git" : path(run)
    }

    /// Makes the directory of the staged entry; the index is written into it next.
    /// - Returns: its path.
    static func makeStage(_ run: Run) throws -> String {
        let own = try Directory(run.commonDir).openOrMake(privateName)
        try own.makeDirectory(stageName(run))
        return "\(run.commonDir)/\(privateName)/\(stageName(run))"
    }

    /// Fills the staged entry. Files that git reads are on disk before the entry appears: an empty `commondir` would
    /// break every worktree command of the repository, and a rename does not order data before it.
    static func fillStage(_ run: Run, identityLine: String) throws {
        let stage = try Directory(run.commonDir).open(privateName).open(stageName(run))
        try stage.create("commondir", "../..\n", sync: true)
        try stage.create("gitdir", "\(run.path)/.git\n", sync: true)
        try stage.create("HEAD", run.branch.map { "ref: refs/heads/\($0)\n" } ?? "\(run.base)\n", sync: true)
        try stage.create("locked", lockReason(run) + "\n", sync: true)
        try stage.create(RunRecord.fileName, try RunRecord(run).json, sync: true)
        try stage.makeDirectory("logs")
        let zero = String(repeating: "0", count: run.base.utf8.count)
        try stage.open("logs").create("HEAD", "\(zero) \(run.base) \(identityLine)\twtengine: spawn \(run.key)\n")
    }

    /// Whether a creation got as far as its branch, which follows on the complete entry. Before that, a branch of its
    /// name is somebody else's. git makes the branch first of all.
    static func mayHaveBranch(_ run: Run) throws -> Bool {
        if run.materializer == .git { return true }
        let common = try Directory(run.commonDir)
        let (stage, trash) = ("\(privateName)/\(stageName(run))", "\(privateName)/\(trashName(run))")
        for name in [stage, "worktrees/\(run.adminID)", trash] {
            if let entry = try? common.openBeneath(name), try entry.contains(RunRecord.fileName) { return true }
        }
        return false
    }

    /// `Name <mail> seconds zone`, as a reflog line has it.
    static func identityLine(name: String, email: String, at date: Date) -> String {
        "\(name) <\(email)> \(Int(date.timeIntervalSince1970)) +0000"
    }

    /// What is wrong with the links between a run's workdir and its git directory; nil when both directions and the
    /// record agree.
    /// - Parameter location: where the workdir is now: its path, or its place in the trash.
    static func mismatch(_ run: Run, workdir: borrowing Directory) -> String? {
        if let identity = run.identity, (try? workdir.identity()) != identity {
            return "\(workdir.path) is not the directory that was made for the run"
        }
        if run.materializer == .clone {
            guard let git = try? workdir.open(".git"), let record = RunRecord(in: git) else {
                return "\(workdir.path)/.git has no record of a run"
            }
            return record.names(run) ? nil : "\(workdir.path)/.git belongs to run \(record.issue) \(record.run)"
        }
        guard let text = (try? workdir.read(".git")) ?? nil else { return "\(workdir.path)/.git is not a file" }
        guard text == "gitdir: \(path(run))\n" else { return "\(workdir.path)/.git does not lead to \(path(run))" }
        // A repository that is gone has no entry to compare; the plan then takes every file for work at risk.
        if access(run.commonDir, F_OK) != 0 { return nil }
        return entryMismatch(run)
    }

    /// The commit of a new run's HEAD, read from the two files that were just written; nil when they say anything else
    /// than HEAD of a new run does.
    static func plainHead(_ run: Run) throws -> String? {
        guard let head = try Directory(path(run)).read("HEAD") else { return nil }
        guard let branch = run.branch else { return head == "\(run.base)\n" ? run.base : nil }
        guard head == "ref: refs/heads/\(branch)\n", let slash = "heads/\(branch)".lastIndex(of: "/") else {
            return nil
        }
        let name = "heads/\(branch)"
        let directory = try Directory(run.commonDir).openBeneath("refs/\(name[..<slash])")
        return try directory.read(String(name[name.index(after: slash)...])).map { String($0.prefix { $0 != "\n" }) }
    }

    /// Whether anything stands where the entry belongs.
    static func exists(_ run: Run) -> Bool {
        (try? Directory(run.commonDir).open("worktrees").contains(run.adminID)) == true
    }

    /// What is wrong with the entry alone.
    static func entryMismatch(_ run: Run) -> String? {
        guard let entry = try? Directory(run.commonDir).openBeneath("worktrees/\(run.adminID)") else {
            return "\(path(run)) does not exist"
        }
        guard let back = (try? entry.read("gitdir")) ?? nil, back == "\(run.path)/.git\n" else {
            return "\(path(run))/gitdir does not lead to \(run.path)"
        }
        let common = ((try? entry.read("commondir")) ?? nil).map { String($0.prefix { $0 != "\n" }) } ?? ""
        guard realPath(common.hasPrefix("/") ? common : "\(path(run))/\(common)") == run.commonDir else {
            return "\(path(run))/commondir does not lead to \(run.commonDir)"
        }
        guard let record = RunRecord(in: entry) else { return "\(path(run)) has no record of a run" }
        return record.names(run) ? nil : "\(path(run)) belongs to run \(record.issue) \(record.run)"
    }
}

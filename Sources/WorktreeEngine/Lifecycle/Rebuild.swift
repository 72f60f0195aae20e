import Foundation
import Glibc
import Registry
import SystemPackage

extension Engine {
    /// Rebuilds the registry from the records that admin entries and clones carry. Runs that are known stay as they are.
    ///
    /// A damaged registry is set aside first, never deleted. Runs come back as `ready`, never as ended, so that no policy
    /// applies to them before somebody says that they have ended, and locked as they were. Of several runs of one issue and role the newest is
    /// the active one; the others are superseded, and the clock of their policy starts anew.
    /// - Parameter repositories: further repositories whose admin entries are read; those that the workdirs below the
    ///   roots lead to are found by themselves.
    /// - Returns: where the damaged registry is now, and the runs that were added.
    /// - Throws: ``EngineError``; ``EngineError/Code/registryNewer`` is not repaired.
    public static func rebuild(
        _ configuration: Configuration, repositories: [String] = []
    ) async throws(EngineError) -> (setAside: String?, runs: [RunKey]) {
        var setAside: String?
        let engine: Engine
        do { engine = try await Engine.open(configuration) } catch {
            guard error.code == .registryCorrupt else { throw error }
            setAside = try await catching("setting the damaged registry aside") {
                try moveAside(configuration.registryPath)
            }
            engine = try await Engine.open(configuration)
        }
        if setAside == nil, let problems = try? await engine.registry.integrityProblems(), !problems.isEmpty {
            throw EngineError(
                .registryCorrupt, .needsHuman,
                "the registry can be opened but is damaged: \(problems.joined(separator: "; ")). Move "
                    + "\(configuration.registryPath)* away, then run this again.")
        }
        let adopted = try await catching("rebuilding the registry") { try await engine.adoptFromDisk(repositories) }
        return (setAside, adopted)
    }

    private static func moveAside(_ path: String) throws -> String {
        let aside = "\(path).damaged-\(Int(Date().timeIntervalSince1970))"
        for suffix in ["", "-wal", "-shm"] where access(path + suffix, F_OK) == 0 {
            try system("rename", path + suffix) { rename(path + suffix, aside + suffix) }
        }
        return aside
    }

    private func adoptFromDisk(_ repositories: [String]) async throws -> [RunKey] {
        var records: [(RunRecord, FileIdentity?)] = []
        var commonDirs = Set(try repositories.map { try RepositoryLocation.find($0).commonDir })
        for root in await visibleRoots() {
            try await blocking { try Self.restoreTrashed(root) }
            let found = try await blocking { try Self.records(below: root) }
            records += found.map { ($0.record, $0.identity) }
            commonDirs.formUnion(found.map(\.record.commonDir))
        }
        let known = Set(records.map(\.0.adminID))
        let allowed = Set(await visibleRoots().map(\.path))
        for commonDir in commonDirs.sorted() {
            // Entries whose workdirs are gone: the run is known again, and `prune` deals with it.
            records += try await blocking { try Self.entryRecords(commonDir) }
                .filter { !known.contains($0.adminID) && allowed.contains($0.root) }.map { ($0, nil) }
        }
        var adopted: [RunKey] = []
        for (record, identity) in records.sorted(by: { $0.0.createdAt < $1.0.createdAt }) {
            guard var run = try? Run(record, identity) else { continue }
            run.lockReason = AdminEntry.recordedLockReason(run)
            guard try await registry.adopt(run) else { continue }
            adopted.append(run.key)
        }
        return adopted
    }

    /// Moves workdirs whose removal did not come to its end back to their paths: they may hold work.
    private static func restoreTrashed(_ root: Root) throws {
        for entry in try root.openPrivate("trash").entries() {
            guard let record = trashedRecord(entry.name, root), let run = try? Run(record, nil), run.root == root.path
            else {
                continue
            }
            do { try Trash.restore(run, root: root) } catch let error as SystemError where error.errno == .fileExists {
                // Something else stands there now; both stay.
            }
        }
    }

    static func records(below root: Root) throws -> [(record: RunRecord, identity: FileIdentity)] {
        var found: [(RunRecord, FileIdentity)] = []
        let top = try root.open()
        for issue in try top.entries() where issue.type == UInt8(DT_DIR) && issue.name != Root.privateName {
            guard let directory = try? top.open(issue.name) else { continue }
            for entry in try directory.entries() where entry.type == UInt8(DT_DIR) {
                let path = "\(root.path)/\(issue.name)/\(entry.name)"
                guard let gitDir = RepositoryLocation.gitDirectory(atDotGit: "\(path)/.git"),
                    let git = try? Directory(gitDir), let record = RunRecord(in: git), record.path == path,
                    record.root == root.path, belongs(record, gitDir),
                    let workdir = try? directory.open(entry.name)
                else { continue }
                found.append((record, try workdir.identity()))
            }
        }
        return found
    }

    /// Whether the record stands where a record of its contents is written: a `.git` file may lead anywhere.
    private static func belongs(_ record: RunRecord, _ gitDir: String) -> Bool {
        if record.materializer == Materializer.clone.rawValue { return gitDir == "\(record.path)/.git" }
        guard let location = try? RepositoryLocation.find(gitDir) else { return false }
        return location.commonDir == record.commonDir && gitDir == "\(record.commonDir)/worktrees/\(record.adminID)"
    }

    private static func entryRecords(_ commonDir: String) throws -> [RunRecord] {
        guard let worktrees = try? Directory("\(commonDir)/worktrees") else { return [] }
        return try worktrees.entries().compactMap { entry in
            guard let directory = try? worktrees.open(entry.name), let record = RunRecord(in: directory),
                record.adminID == entry.name, record.commonDir == commonDir,
                record.materializer != Materializer.clone.rawValue
            else { return nil }
            return record
        }
    }
}

extension Run {
    /// A run as its record says, in use. Records are untrusted input: every name is parsed again.
    init(_ record: RunRecord, _ identity: FileIdentity?) throws {
        guard let materializer = Materializer(rawValue: record.materializer) else {
            throw InvalidName(
                kind: "materializer", value: record.materializer, expected: "checkout, pool, git or clone")
        }
        self.init(
            key: try RunKey(issue: record.issue, run: record.run), role: try Role(record.role), repo: record.repo,
            commonDir: record.commonDir, root: record.root, path: record.path, adminID: record.adminID,
            branch: record.branch, base: record.base, materializer: materializer, createdAt: record.createdAt)
        guard path == "\(root)/\(key.issue.pathComponent)/\(key.run)" else {
            throw InvalidName(kind: "path", value: path, expected: "\(root)/<issue>/<run>")
        }
        // A single component, since it names directories in the stage and the trash.
        _ = try RunID(adminID)
        state = .ready
        self.identity = identity
    }
}

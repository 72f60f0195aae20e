import Git
import Registry

/// A commit that would be lost.
struct OwnCommit: Sendable {
    let id: String
    let summary: String
}

extension Engine {
    /// Asks libgit2 about references and history of a git directory: with the handle that is kept of a repository that
    /// runs are made of, and with a new one elsewhere.
    /// - Returns: nil when git has to be asked.
    func asking<T: Sendable>(
        _ gitDir: String, _ body: @escaping @Sendable (borrowing Repository) throws -> T
    ) async throws -> T? {
        let kept = knownActor(for: gitDir)?.history
        return try await blocking {
            let location = RepositoryLocation(gitDir: gitDir, commonDir: gitDir, workTree: nil)
            guard try Support.repositoryReasons(location).isEmpty else { return nil }
            if let kept { return try kept.with(body) }
            let repository = try Repository(gitDirectory: gitDir)
            return try body(repository)
        }
    }

    /// Commits that `tip` reaches and no reference does that stays. See ``Git/Repository/ownCommits(of:excluding:onlyPrefix:limit:)``.
    ///
    /// - Parameters:
    ///   - excluding: references that do not count. A stash never does: it can be dropped at any time.
    ///   - onlyPrefix: when given, only references below it count.
    func ownCommits(
        of tip: String, in gitDir: String, excluding: [String] = [], onlyPrefix: String? = nil
    ) async throws -> [OwnCommit] {
        let excluded = excluding + ["refs/stash"]
        if let id = ObjectID(tip) {
            let found = try await asking(gitDir) { repository in
                try repository.ownCommits(of: id, excluding: Set(excluded), onlyPrefix: onlyPrefix).map {
                    OwnCommit(id: $0.description, summary: repository.summary(ofCommit: $0))
                }
            }
            if let found { return found }
        }
        return try await listed([tip], in: gitDir, excluding: excluded, onlyPrefix: onlyPrefix)
    }

    /// As git lists them. See: man git-rev-list
    func listed(
        _ tips: [String], in gitDir: String, excluding: [String], onlyPrefix: String?
    ) async throws -> [OwnCommit] {
        let listed = try await git.offline.require(
            in: nil, ["--git-dir=\(gitDir)", "for-each-ref", "--format=%(if)%(symref)%(then)%(refname)%(end)"])
        let symbolic = listed.text.split(separator: "\n").map(String.init)
        let passing = Repository.passing.map { "\($0)*" }
        let result = try await git.offline.require(
            in: nil,
            ["--git-dir=\(gitDir)", "log", "--max-count=100", "--format=%H %s"] + tips + ["--not"]
                + (excluding + symbolic + passing).map { "--exclude=\($0)" } + [
                    "--glob=\(onlyPrefix ?? "refs/")", "--",
                ])
        return result.text.split(separator: "\n").map { line in
            let fields = line.split(separator: " ", maxSplits: 1)
            return OwnCommit(id: String(fields[0]), summary: fields.count > 1 ? String(fields[1]) : "")
        }
    }

    /// What a full reference name points to, in hexadecimal; nil when there is none.
    func target(of reference: String, in gitDir: String) async throws -> String? {
        let found: String?? = try await asking(gitDir) { try $0.target(of: reference)?.description }
        if let found { return found }
        let result = try await git.offline.run(
            in: nil, ["--git-dir=\(gitDir)", "rev-parse", "--verify", "--quiet", "--end-of-options", reference])
        return result.status == 0 ? result.text : nil
    }

    /// Whether a git directory has a branch. A cleanup takes that of a run when others reach all of its commits.
    /// - Throws: ``EngineError``.
    package func hasBranch(_ name: String, in gitDir: String) async throws(EngineError) -> Bool {
        try await Self.catching("looking for the branch \(name)") {
            try await target(of: "refs/heads/\(name)", in: gitDir) != nil
        }
    }

    /// Every reference of a git directory with its object, in hexadecimal.
    func references(in gitDir: String) async throws -> [(name: String, id: String)] {
        let found = try await asking(gitDir) { repository in
            try repository.references().map { (name: $0.name, id: $0.id.description) }
        }
        if let found { return found }
        let result = try await git.offline.require(
            in: nil, ["--git-dir=\(gitDir)", "for-each-ref", "--format=%(objectname) %(refname)"])
        return result.text.split(separator: "\n").map { line in
            let fields = line.split(separator: " ", maxSplits: 1)
            return (String(fields.last ?? ""), String(fields[0]))
        }
    }
}

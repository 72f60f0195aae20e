import Settings
@_exported public import WorktreeEngine

/// What a project's `workflow.toml` says: where its issues are, which roles work on them in which repositories, and how
/// workdirs are made. A value that has been checked as a whole.
public struct Profile: Sendable {
    /// The file, with symbolic links resolved. Relative paths in it are relative to its directory.
    public let path: String
    /// Where issues come from and results go to.
    public let outbox: OutboxSettings
    /// Absolute paths of the repositories, by logical name.
    public let repositories: [String: String]
    /// The logical name of the repository that a role works in.
    public let roleRepositories: [Role: String]
    /// What is taken from the outbox: the groups of enabled roles, in the order of the file.
    public let groups: [Group]
    /// Groups whose role is not enabled. They take nothing; a role is switched off without losing its settings.
    public let idleGroups: [Group]
    /// The roles that are enabled.
    public let roles: Set<Role>
    /// The labels that tell an issue's state.
    public let labels: Labels
    /// How workdirs are made and cleaned up, from `[workdir]`. May be changed before an engine is opened with it.
    public var workdir: WorktreeEngine.Configuration
    /// Files of a repository's main worktree that a new workdir gets a copy of, for example `.env`: paths below its top.
    /// git must ignore them, or they would count as the worker's own.
    public let include: [String]

    /// Reads and checks a file. Blocks, since it also looks at the repositories.
    /// - Parameters:
    ///   - path: `workflow.toml`, or a symbolic link to it.
    ///   - state: the engine's state directory, an absolute path.
    /// - Throws: ``ProfileError`` with everything that is wrong.
    public static func load(_ path: String, state: String) throws(ProfileError) -> Profile {
        let real = realPath(path) ?? path
        let top: Setting?
        do { top = try SettingsFile.read(real) } catch {
            throw ProfileError([ProfileError.Problem(path: real, place: error.place, text: error.reason)])
        }
        guard let top else {
            let text = "does not exist. Name the workflow.toml at the root of the outbox repository."
            throw ProfileError([ProfileError.Problem(path: real, place: nil, text: text)])
        }
        var reader = ProfileReader(path: real, state: state)
        let profile = reader.profile(top)
        let problems = reader.problems.all
        guard let profile, problems.isEmpty else {
            throw ProfileError(problems.map { ProfileError.Problem(path: real, place: $0.place, text: $0.text) })
        }
        return profile
    }

    /// The absolute path of the repository that a role works in.
    /// - Precondition: the role is enabled or a group has it; a profile is refused when such a role has no repository.
    public func repository(of role: Role) -> String {
        guard let path = roleRepositories[role].flatMap({ repositories[$0] }) else {
            preconditionFailure("the role \(role) has no repository in \(self.path)")
        }
        return path
    }
}

/// Where issues come from and results go to: `[outbox]`.
public enum OutboxSettings: Sendable, Hashable {
    /// A local database, at an absolute path. Nothing has been opened yet.
    case sqlite(path: String)
    /// The issues of a repository on a forge.
    /// - `repository`: `org/repo`, or `group/subgroup/project` on GitLab.
    /// - `api`: the base of the REST API without a slash at its end, `https://api.github.com` or
    ///   `https://gitlab.com/api/v4` unless `url` names another. Plain `http` is for loopback only, since the token
    ///   goes with every request.
    case forge(kind: ForgeKind, repository: String, api: String)
}

/// The forges whose REST API is known.
public enum ForgeKind: String, Sendable, Hashable, CaseIterable {
    /// GitHub, or GitHub Enterprise Server.
    case github
    /// GitLab.
    case gitlab

    /// Where its own service answers.
    var publicAPI: String {
        switch self {
        case .github: "https://api.github.com"
        case .gitlab: "https://gitlab.com/api/v4"
        }
    }
}

/// Issues that one role takes, and how many at once: `[groups.<name>]`.
public struct Group: Sendable, Hashable {
    /// The name of the table.
    public let name: String
    /// Who works on them.
    public let role: Role
    /// How many runs of the group may be active at once; 1 when the file does not say.
    public let maxConcurrent: Int
    /// The labels that an issue must carry, every one of them, beside `state:todo`. Never empty.
    public let listenLabels: Set<String>
    /// How long one run may take; an hour when the file does not say.
    public let timeout: Duration
}

/// Why a profile is refused: everything that is wrong with it.
public struct ProfileError: Error, Sendable, CustomStringConvertible {
    /// One thing that is wrong.
    public struct Problem: Sendable, Hashable, CustomStringConvertible {
        /// The file.
        public let path: String
        /// The line, from 1; nil when it is about the file as such.
        public let line: Int?
        /// The column in Unicode scalars, from 1; nil when it is about the file as such.
        public let column: Int?
        /// The key, the reason and what is accepted.
        public let text: String

        init(path: String, place: Place?, text: String) {
            self.path = path
            self.text = text
            line = place?.line
            column = place?.column
        }

        /// `path:line:column: text`, as compilers say it.
        public var description: String {
            if let line, let column { "\(path):\(line):\(column): \(text)" } else { "\(path) \(text)" }
        }
    }

    /// In the order of the file; never empty.
    public let problems: [Problem]

    init(_ problems: [Problem]) { self.problems = problems }

    /// One line for each.
    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

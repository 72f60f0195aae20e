public import WorktreeEngine

/// What a Lead asks of a worker: `work_order.json` in the run's context pack.
///
/// In JSON it has the keys `issue_ref`, `run_id`, `role`, `repo_dir`, either `spec_ref` or `spec_snapshot`,
/// `contracts_ref` (a text or null), `constraints` and `depends_on` (arrays of text).
public struct WorkOrder: Sendable, Hashable {
    /// Where the specification is.
    public enum Spec: Sendable, Hashable {
        /// A name that the worker resolves by itself, such as a path in the repository or a URL.
        case reference(String)
        /// `spec.md` in the context pack: the issue's text as it was at the spawn.
        case snapshot
    }

    /// The issue.
    public var issue: IssueRef
    /// The attempt at it.
    public var run: RunID
    /// What the worker is.
    public var role: Role
    /// The run's workdir, an absolute path. The worker changes nothing outside of it but its result.
    public var repoDir: String
    /// Where the specification is.
    public var spec: Spec
    /// Where interfaces are described that the work must keep to; nil when there are none.
    public var contractsRef: String?
    /// What else the work must keep to, a sentence each.
    public var constraints: [String]
    /// Issues whose work this one builds on.
    public var dependsOn: [IssueRef]

    /// Puts one together.
    public init(
        issue: IssueRef, run: RunID, role: Role, repoDir: String, spec: Spec = .snapshot, contractsRef: String? = nil,
        constraints: [String] = [], dependsOn: [IssueRef] = []
    ) {
        self.issue = issue
        self.run = run
        self.role = role
        self.repoDir = repoDir
        self.spec = spec
        self.contractsRef = contractsRef
        self.constraints = constraints
        self.dependsOn = dependsOn
    }

    /// The key of the run.
    public var key: RunKey { RunKey(issue: issue, run: run) }
}

extension WorkOrder: Codable {
    private enum CodingKeys: String, CodingKey {
        case issue = "issue_ref"
        case run = "run_id"
        case role
        case repoDir = "repo_dir"
        case specRef = "spec_ref"
        case specSnapshot = "spec_snapshot"
        case contractsRef = "contracts_ref"
        case constraints
        case dependsOn = "depends_on"
    }

    /// Reads one; either of the two keys of the specification must be there, and not both.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        issue = try container.decode(IssueRef.self, forKey: .issue)
        run = try container.decode(RunID.self, forKey: .run)
        role = try container.decode(Role.self, forKey: .role)
        repoDir = try container.decode(String.self, forKey: .repoDir)
        contractsRef = try container.decodeIfPresent(String.self, forKey: .contractsRef)
        constraints = try container.decode([String].self, forKey: .constraints)
        dependsOn = try container.decode([IssueRef].self, forKey: .dependsOn)
        let reference = try container.decodeIfPresent(String.self, forKey: .specRef)
        switch (reference, try container.decodeIfPresent(String.self, forKey: .specSnapshot)) {
        case (let reference?, nil): spec = .reference(reference)
        case (nil, ContextPack.specName): spec = .snapshot
        default:
            throw DecodingError.dataCorruptedError(
                forKey: .specSnapshot, in: container,
                debugDescription: "either spec_ref or spec_snapshot = \"\(ContextPack.specName)\" is expected")
        }
    }

    /// Writes one.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(issue, forKey: .issue)
        try container.encode(run, forKey: .run)
        try container.encode(role, forKey: .role)
        try container.encode(repoDir, forKey: .repoDir)
        switch spec {
        case .reference(let reference): try container.encode(reference, forKey: .specRef)
        case .snapshot: try container.encode(ContextPack.specName, forKey: .specSnapshot)
        }
        // Null and not left out, so that a worker may read every key.
        try container.encode(contractsRef, forKey: .contractsRef)
        try container.encode(constraints, forKey: .constraints)
        try container.encode(dependsOn, forKey: .dependsOn)
    }
}

import Settings
import WorktreeEngine

/// Reads the tables of workflow.toml, and goes on after everything that is wrong, so that one look finds it all.
struct ProfileReader {
    let path: String
    let state: String
    var problems = Problems()

    /// What relative paths are relative to.
    private var base: String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }

    init(path: String, state: String) {
        self.path = path
        self.state = state
    }

    /// The whole file; nil when there is no outbox to speak of. It counts only when there are no problems.
    mutating func profile(_ top: Setting) -> Profile? {
        let required = ["outbox", "repos", "role_repo", "groups", "roles"]
        guard let table = top.table(required + ["labels", "workdir"], &problems) else { return nil }
        for name in required where table[name] == nil { problems.add(missing: name, in: top, "a table: [\(name)]") }
        let outbox = outbox(table["outbox"])
        let repositories = repositories(table["repos"])
        let roleRepositories = roleRepositories(table["role_repo"], repositories)
        let labels = labels(table["labels"])
        let enabled = enabledRoles(table["roles"])
        let groups = groups(table["groups"], labels, roleRepositories)
        let (workdir, include) = workdir(table["workdir"])

        for (role, element) in enabled where !groups.contains(where: { $0.role == role }) {
            problems.add(
                element,
                "\(element.key): the role \(role) is enabled, but no group takes issues for it. "
                    + "Add one, [groups.\(role)], or take the role out here.")
        }
        let roles = Set(enabled.map(\.role))
        if !include.isEmpty, case .table(let entries)? = table["workdir"]?.value,
            let setting = entries.first(where: { $0.name == "include" })
        {
            for name in Set(roles.compactMap { roleRepositories[$0] ?? nil }).sorted() {
                guard let path = repositories[name] ?? nil, let found = try? RepositoryLocation.find(path),
                    found.workTree == nil
                else { continue }
                problems.add(
                    setting,
                    "\(setting.key): the repository \(name) is bare, with no main worktree to copy from. Name a "
                        + "worktree in [repos], or take include out.")
            }
        }
        guard let outbox else { return nil }
        return Profile(
            path: path, outbox: outbox, repositories: repositories.compactMapValues { $0 },
            roleRepositories: roleRepositories.compactMapValues { $0 },
            groups: groups.filter { roles.contains($0.role) },
            idleGroups: groups.filter { !roles.contains($0.role) }, roles: roles, labels: labels, workdir: workdir,
            include: include)
    }

    // MARK: [repos], [role_repo]

    /// Paths by name; nil for a path that is not accepted, so that its name is known all the same.
    private mutating func repositories(_ setting: Setting?) -> [String: String?] {
        var result: [String: String?] = [:]
        for entry in setting?.entries(&problems) ?? [] { result[entry.name] = .some(repository(entry)) }
        if let setting, result.isEmpty, case .table = setting.value {
            problems.add(
                setting, "\(setting.key): there is no repository in it. Expected lines such as app = \"../app\".")
        }
        return result
    }

    private mutating func repository(_ setting: Setting) -> String? {
        guard let text = setting.line(&problems, "the path of a repository, relative to this file or absolute") else {
            return nil
        }
        let path = absolute(text)
        guard let real = realPath(path) else {
            problems.add(
                setting, "\(setting.key): \(path) does not exist. Clone the repository there, or correct the path.")
            return nil
        }
        // The top of a repository, and not something in one: a spawn would take whatever repository is further up.
        guard let found = try? RepositoryLocation.find(real), found.workTree == real || found.gitDir == real else {
            problems.add(
                setting,
                "\(setting.key): \(real) is not the top of a git repository. Name its worktree, or the "
                    + "directory of a bare repository.")
            return nil
        }
        return real
    }

    private mutating func roleRepositories(
        _ setting: Setting?, _ repositories: [String: String?]
    ) -> [Role: String?] {
        var result: [Role: String?] = [:]
        for entry in setting?.entries(&problems) ?? [] {
            guard let role = role(entry.name, entry),
                let name = entry.line(&problems, "the name of a repository in [repos]")
            else { continue }
            if repositories[name] == nil {
                let known = repositories.keys.sorted().joined(separator: ", ")
                problems.add(
                    entry,
                    "\(entry.key): there is no repository \(name.debugDescription) in [repos]. Known: "
                        + "\(known.isEmpty ? "none" : known).")
            }
            result[role] = .some(name)
        }
        return result
    }

    // MARK: [roles], [groups]

    private mutating func enabledRoles(_ setting: Setting?) -> [(role: Role, setting: Setting)] {
        guard let setting, let table = setting.table(["enabled"], &problems) else { return [] }
        let expected = "an array of roles such as [\"backend\", \"qa\"]"
        guard let enabled = table["enabled"] else {
            problems.add(missing: "enabled", in: setting, expected)
            return []
        }
        var result: [(role: Role, setting: Setting)] = []
        for (text, element) in enabled.lines(&problems, expected) ?? [] {
            guard let role = role(text, element) else { continue }
            if result.contains(where: { $0.role == role }) {
                problems.add(element, "\(element.key): the role \(role) stands there twice. Take one out.")
            } else {
                result.append((role, element))
            }
        }
        return result
    }

    private mutating func groups(
        _ setting: Setting?, _ labels: Labels, _ repositories: [Role: String?]
    ) -> [Group] {
        var result: [Group] = []
        for entry in setting?.entries(&problems) ?? [] {
            guard let group = group(entry, labels, repositories) else { continue }
            // An issue with all labels of the larger set would be taken by both.
            if let other = result.first(where: {
                $0.role == group.role
                    && ($0.listenLabels.isSubset(of: group.listenLabels)
                        || group.listenLabels.isSubset(of: $0.listenLabels))
            }) {
                problems.add(
                    entry,
                    "\(entry.key): takes the same issues as the group \(other.name.debugDescription), which has "
                        + "the same role. Make one of them, or give each a label that the other has not.")
            }
            result.append(group)
        }
        return result
    }

    private mutating func group(
        _ setting: Setting, _ labels: Labels, _ repositories: [Role: String?]
    ) -> Group? {
        let keys = ["role", "max_concurrent", "listen_labels", "timeout"]
        guard let table = setting.table(keys, &problems) else { return nil }
        let maxConcurrent = table["max_concurrent"].map { $0.integer(1...256, &problems) } ?? 1
        let timeout = table["timeout"].map { $0.duration(&problems) } ?? .seconds(3600)
        let listenLabels = listenLabels(table["listen_labels"], of: setting, labels)
        guard let entry = table["role"] else {
            problems.add(missing: "role", in: setting, "a role such as \"backend\"")
            return nil
        }
        guard let text = entry.line(&problems, "a role such as \"backend\""), let role = role(text, entry) else {
            return nil
        }
        if repositories[role] == nil {
            problems.add(
                entry, "\(entry.key): the role \(role) has no repository. Name one in [role_repo], \(role) = \"...\".")
        }
        guard let maxConcurrent, let timeout, let listenLabels else { return nil }
        return Group(
            name: setting.name, role: role, maxConcurrent: maxConcurrent, listenLabels: listenLabels, timeout: timeout)
    }

    private mutating func listenLabels(_ setting: Setting?, of group: Setting, _ labels: Labels) -> Set<String>? {
        let expected = "an array of labels such as [\"role:backend\"], not empty"
        guard let setting else {
            problems.add(missing: "listen_labels", in: group, expected)
            return nil
        }
        guard let elements = setting.lines(&problems, expected) else { return nil }
        if case .array(let all) = setting.value, all.isEmpty { problems.reject(setting, expected) }
        var result: Set<String> = []
        for (label, element) in elements {
            guard let label = self.label(label, element) else { continue }
            if labels.isReserved(label) {
                problems.add(
                    element,
                    "\(element.key): \(label.debugDescription) is a label that tells the state of an issue or "
                        + "gates it, which is looked at anyway. Take it out.")
            } else if !result.insert(label).inserted {
                problems.add(element, "\(element.key): \(label.debugDescription) stands there twice. Take one out.")
            }
        }
        return result.isEmpty ? nil : result
    }

    // MARK: [workdir]

    private mutating func workdir(_ setting: Setting?) -> (Configuration, include: [String]) {
        var configuration = Configuration(state: state)
        guard let setting, let table = setting.table(EngineSettings.keys + ["include"], &problems) else {
            return (configuration, [])
        }
        EngineSettings.apply(table, to: &configuration, relativeTo: base, &problems)
        if case .table(let branch) = table["branch"]?.value,
            let template = branch.first(where: { $0.name == "template" }),
            case .text(let text) = template.value, text == configuration.branchTemplate,
            let reason = BranchTemplate.objection(to: text)
        {
            problems.add(template, "\(template.key): \(text.debugDescription) \(reason)")
        }
        return (configuration, include(table["include"]))
    }

    private mutating func include(_ setting: Setting?) -> [String] {
        var result: [String] = []
        for (file, element) in setting?.lines(&problems, "an array of files such as [\".env\"]") ?? [] {
            if let reason = result.contains(file) ? "stands there twice" : objection(toFile: file) {
                problems.add(
                    element,
                    "\(element.key): \(file.debugDescription) \(reason). Expected the path of a file below the "
                        + "top of the repository's main worktree.")
            } else {
                result.append(file)
            }
        }
        return result
    }

    private func objection(toFile file: String) -> String? {
        let parts = file.split(separator: "/", omittingEmptySubsequences: false)
        if file.hasPrefix("/") { return "is absolute" }
        if parts.contains("..") { return "leads out of the repository" }
        if parts.contains(where: { $0.lowercased() == ".git" }) { return "lies in .git" }
        if parts.contains(where: { $0.isEmpty || $0 == "." }) { return "has a part that is empty or a dot" }
        return nil
    }

    // MARK: Values

    func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : "\(base)/\(path)" }

    private mutating func role(_ text: String, _ setting: Setting) -> Role? {
        do { return try Role(text) } catch {
            problems.add(setting, "\(setting.key): \(error)")
            return nil
        }
    }

    /// What both forges and a list in a query take. See: GitHub REST, "List repository issues" (`labels`: "a list of
    /// comma separated label names"); GitLab REST, "Issues API" (`labels`: "comma-separated list of label names").
    mutating func label(_ text: String, _ setting: Setting) -> String? {
        let isPlain =
            text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control && $0 != "," }
            && text.first != " " && text.last != " " && text.count <= 50
        if isPlain { return text }
        problems.reject(setting, "a label of at most 50 characters, without commas and without spaces at its ends")
        return nil
    }
}

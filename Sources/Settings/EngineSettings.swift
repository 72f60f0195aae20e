package import WorktreeEngine

/// What an engine can be told in a file: all of config.toml, and part of `[workdir]` in workflow.toml.
package enum EngineSettings {
    /// The keys of the table.
    package static let keys = [
        "roots", "limits", "policies", "branch", "cleanup", "checkout", "pool", "git", "audit",
    ]

    /// Sets what a table says; what is wrong in it is added to the problems and not set.
    /// - Parameters:
    ///   - table: the settings by name.
    ///   - base: what relative roots are relative to, all of which must exist; nil when they have to be absolute.
    package static func apply(
        _ table: [String: Setting], to configuration: inout Configuration, relativeTo base: String? = nil,
        _ problems: inout Problems
    ) {
        if let setting = table["roots"] { configuration.roots = roots(setting, base, &problems) }
        if let setting = table["limits"] { limits(setting, &configuration, &problems) }
        if let setting = table["policies"] { policies(setting, &configuration, &problems) }
        if let setting = table["branch"] { branch(setting, &configuration, &problems) }
        if let ignored = table["cleanup"]?.table(["ignored"], &problems)?["ignored"],
            let keeps = ignored.word(["remove": false, "keep": true], &problems, "\"remove\" or \"keep\"")
        {
            configuration.keepsIgnoredFiles = keeps
        }
        if let checkout = table["checkout"]?.table(["workers", "memory"], &problems) {
            if let workers = checkout["workers"]?.integer(1...256, &problems) {
                configuration.checkoutWorkers = workers
            }
            if let bytes = checkout["memory"]?.bytes(&problems) { configuration.checkoutMemory = bytes }
        }
        if let size = table["pool"]?.table(["size"], &problems)?["size"]?.integer(0...1000, &problems) {
            configuration.poolSize = size
        }
        if let timeout = table["git"]?.table(["timeout"], &problems)?["timeout"]?.duration(&problems) {
            configuration.gitTimeout = timeout
        }
        if let actor = table["audit"]?.table(["actor"], &problems)?["actor"]?.line(&problems) {
            configuration.actor = actor
        }
    }

    private static func roots(_ setting: Setting, _ base: String?, _ problems: inout Problems) -> [String] {
        let expected =
            base == nil
            ? "an array of absolute paths such as [\"/srv/workdirs\"]"
            : "an array of paths, relative to the file or absolute, such as [\"/srv/workdirs\"]"
        return (setting.lines(&problems, expected) ?? []).compactMap { path, element in
            guard let base else {
                if path.hasPrefix("/") { return path }
                problems.reject(element, expected)
                return nil
            }
            // A Lead would block each issue that it takes, so it looks before.
            let path = path.hasPrefix("/") ? path : "\(base)/\(path)"
            if let real = realPath(path) { return real }
            problems.add(element, "\(element.key): \(path) does not exist. Make or mount it, or correct the path.")
            return nil
        }
    }

    private static func limits(
        _ setting: Setting, _ configuration: inout Configuration, _ problems: inout Problems
    ) {
        guard let table = setting.table(["per_repository", "per_role", "disk_reserve"], &problems) else { return }
        if let number = table["per_repository"]?.integer(1...Int.max, &problems) {
            configuration.limits.perRepository = number
        }
        if let number = table["per_role"]?.integer(1...Int.max, &problems) { configuration.limits.perRole = number }
        if let bytes = table["disk_reserve"]?.bytes(&problems) { configuration.diskReserve = bytes }
    }

    private static func policies(
        _ setting: Setting, _ configuration: inout Configuration, _ problems: inout Problems
    ) {
        guard let table = setting.table(Outcome.allCases.map(\.rawValue), &problems) else { return }
        for outcome in Outcome.allCases {
            guard let setting = table[outcome.rawValue] else { continue }
            if let policy = policy(setting) {
                configuration.policies[outcome] = policy
            } else {
                problems.reject(setting, "\"immediate\", \"keep\" or \(Quantity.durationForms)")
            }
        }
    }

    private static func policy(_ setting: Setting) -> Policy? {
        guard case .text(let text) = setting.value else { return nil }
        return switch text {
        case "immediate": .immediate
        case "keep": .keep
        default: Quantity.duration(text).map { .ttl($0) }
        }
    }

    private static func branch(
        _ setting: Setting, _ configuration: inout Configuration, _ problems: inout Problems
    ) {
        guard let table = setting.table(["template", "delete_unmerged"], &problems) else { return }
        if let flag = table["delete_unmerged"]?.flag(&problems) { configuration.deletesUnmergedBranches = flag }
        guard let setting = table["template"], let template = setting.line(&problems) else { return }
        let rest = ["{issue}", "{run}", "{role}"].reduce(template) { $0.replacing($1, with: "") }
        guard !rest.contains(where: { "{}".contains($0) }) else {
            return problems.reject(setting, "a branch name with the placeholders {issue}, {run} and {role}")
        }
        configuration.branchTemplate = template
    }
}

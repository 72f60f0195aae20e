import Glibc
import Settings
import WorktreeEngine

import struct Foundation.URLComponents

/// `[outbox]` and `[labels]`.
extension ProfileReader {
    mutating func outbox(_ setting: Setting?) -> OutboxSettings? {
        guard let setting, let table = setting.table(["backend", "path", "repo", "url"], &problems) else { return nil }
        let expected = "\"sqlite\", \"github\" or \"gitlab\""
        guard let backend = table["backend"] else {
            problems.add(missing: "backend", in: setting, expected)
            return nil
        }
        let words: [String: ForgeKind?] = ["sqlite": nil, "github": .github, "gitlab": .gitlab]
        guard let kind = backend.word(words, &problems, expected) else { return nil }
        let unfit = kind == nil ? ["repo", "url"] : ["path"]
        for name in unfit {
            guard let entry = table[name] else { continue }
            problems.add(
                entry,
                "\(entry.key): does not go with backend = \"\(kind?.rawValue ?? "sqlite")\", which has "
                    + "\(kind == nil ? "a path" : "a repo"). Take it out.")
        }
        guard let kind else { return database(table["path"], in: setting) }
        return forge(kind, table["repo"], table["url"], in: setting)
    }

    private mutating func database(_ setting: Setting?, in outbox: Setting) -> OutboxSettings? {
        let expected = "the path of the database, relative to this file or absolute"
        guard let setting else {
            problems.add(missing: "path", in: outbox, expected)
            return nil
        }
        guard let path = setting.line(&problems, expected).map(absolute) else { return nil }
        // One name for one file, since kept messages are filed under it.
        return .sqlite(path: realPath(path) ?? path)
    }

    private mutating func forge(
        _ kind: ForgeKind, _ repo: Setting?, _ url: Setting?, in outbox: Setting
    ) -> OutboxSettings? {
        let api = url.map { self.api($0) } ?? kind.publicAPI
        let expected =
            kind == .github ? "\"org/repo\"" : "\"group/project\", with subgroups between them if there are any"
        guard let repo else {
            problems.add(missing: "repo", in: outbox, expected)
            return nil
        }
        guard let name = repo.line(&problems, expected) else { return nil }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard (try? IssueRef("\(name)#1")) != nil, kind == .github ? parts.count == 2 : parts.count >= 2 else {
            problems.reject(repo, expected)
            return nil
        }
        guard let api else { return nil }
        return .forge(kind: kind, repository: name, api: api)
    }

    /// The token goes with every request: to nobody else than the host that the file names, and not in the clear.
    private mutating func api(_ setting: Setting) -> String? {
        let expected = "the base of the REST API such as \"https://forge.example.org/api/v4\""
        guard var text = setting.line(&problems, expected) else { return nil }
        while text.hasSuffix("/") { text.removeLast() }
        let url = URLComponents(string: text)
        guard let url, let scheme = url.scheme, ["https", "http"].contains(scheme), let host = url.host, !host.isEmpty,
            url.query == nil, url.fragment == nil
        else {
            problems.reject(setting, expected)
            return nil
        }
        guard url.user == nil, url.password == nil else {
            // Not shown, as it may be a secret.
            problems.add(
                setting, "\(setting.key): names a user or password. Take it out; the token comes from the environment.")
            return nil
        }
        // An address: 127.example.com is somebody's name.
        var address = in_addr()
        let isLoopback =
            ["localhost", "::1", "[::1]"].contains(host)
            || host.hasPrefix("127.") && inet_pton(AF_INET, host, &address) == 1
        guard scheme == "https" || isLoopback else {
            problems.add(
                setting,
                "\(setting.key): \(text.debugDescription) would send the token unencrypted. Use https; http is "
                    + "for loopback only.")
            return nil
        }
        return text
    }

    mutating func labels(_ setting: Setting?) -> Labels {
        guard let setting else { return Labels() }
        let keys = TaskState.allCases.map(\.rawValue) + ["needs_human"]
        guard let table = setting.table(keys, &problems) else { return Labels() }
        var names: [TaskState: String] = [:]
        for state in TaskState.allCases { names[state] = label(table[state.rawValue]) }
        let needsHuman = label(table["needs_human"])
        let labels = Labels(names: names, needsHuman: needsHuman ?? Labels().needsHuman)
        collisions(labels, table)
        return labels
    }

    private mutating func label(_ setting: Setting?) -> String? {
        guard let setting, let text = setting.line(&problems) else { return nil }
        return label(text, setting)
    }

    /// Two meanings of one label; case does not count, since it does not on GitHub.
    private mutating func collisions(_ labels: Labels, _ table: [String: Setting]) {
        var seen: [String: String] = [:]
        let named = TaskState.allCases.map { ($0.rawValue, labels.name(of: $0)) } + [("needs_human", labels.needsHuman)]
        // Those of the file last: of two labels that collide at least one stands there, and there it is told.
        for (key, label) in named.filter({ table[$0.0] == nil }) + named.filter({ table[$0.0] != nil }) {
            if let other = seen.updateValue(key, forKey: label.lowercased()), let setting = table[key] {
                problems.add(
                    setting, "\(setting.key): \(label.debugDescription) is the label of \(other) too. Give it another.")
            }
        }
    }
}

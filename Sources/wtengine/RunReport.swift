import CommandKit
import WorktreeEngine

extension RunKey {
    var json: JSON { ["issue": .text(issue.description), "run": .text(run.description)] }
}

extension Run {
    /// The run as programs read it.
    var json: JSON {
        [
            "issue": .text(key.issue.description), "run": .text(key.run.description), "role": .text(role.description),
            "repo": .text(repo), "path": .text(path), "branch": .text(branch), "base": .text(base),
            "state": .text(state.rawValue), "superseded": .bool(superseded), "supersededBy": .text(supersededBy),
            "materializer": .text(materializer.rawValue), "outcome": .text(outcome?.rawValue),
            "pid": .number(worker?.pid), "reason": .text(reason), "lockReason": .text(lockReason),
            "createdAt": .date(createdAt), "updatedAt": .date(updatedAt), "endedAt": .date(endedAt),
        ]
    }

    /// The state with the flags that change what may be done, as one word.
    var stateWord: String {
        state.rawValue + (superseded ? ",superseded" : "") + (lockReason == nil ? "" : ",locked")
    }

    /// One line: which run, and how it is now.
    var line: String { "\(key) \(stateWord)" }

    /// Everything there is to know, a field a line.
    var details: String {
        let fields: [(String, String?)] = [
            ("issue", key.issue.description), ("run", key.run.description), ("role", role.description),
            ("state", stateWord), ("outcome", outcome?.rawValue), ("superseded by", supersededBy), ("reason", reason),
            ("locked", lockReason), ("path", path), ("repo", repo), ("branch", branch ?? "none (detached HEAD)"),
            ("base", base), ("materializer", materializer.rawValue),
            ("worker", worker.map { "pid \($0.pid) on \($0.host)" }), ("created", Timestamp.short(createdAt)),
            ("updated", Timestamp.short(updatedAt)), ("ended", endedAt.map { Timestamp.short($0) }),
        ]
        return fields.compactMap { name, value in
            value.map { name + String(repeating: " ", count: 15 - name.count) + Table.visible($0) }
        }.joined(separator: "\n")
    }
}

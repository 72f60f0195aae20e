import Foundation

/// GitLab's answers.
///
/// See: docs.gitlab.com, "Issues API", "Notes API", "Resource label events API", "Users API" and "GitLab quick actions".
struct FakeGitLab: Face {
    let repository: String

    func reply(to request: FakeForge.Request, _ model: inout Model, page: Page) -> Reply {
        guard request.headers["private-token"] == FakeForge.token else { return .message(401, "401 Unauthorized") }
        let path = request.segments
        if path == ["api", "v4", "user"] { return .json(user(.bot)) }
        let prefix = ["api", "v4", "projects", repository, "issues"]
        guard path.starts(with: prefix) else { return .message(404, "404 Project Not Found") }
        let rest = Array(path.dropFirst(prefix.count))
        if rest.isEmpty, request.method == "GET" { return list(request.query, model, page) }
        guard let number = rest.first.flatMap({ Int($0) }), let found = model.issues[number], !found.isPullRequest
        else {
            return .message(404, "404 Not found")
        }
        let fields = (try? JSONSerialization.jsonObject(with: Data(request.body.utf8))) as? [String: Any] ?? [:]
        switch (request.method, rest.dropFirst().first, rest.count) {
        case ("GET", nil, 1): return .json(issue(found))
        case ("GET", "notes", 2):
            let notes = found.comments.map(note)
            return page.reply(request.query["sort"] == "asc" ? notes : notes.reversed())
        case ("GET", "resource_label_events", 2):
            return page.reply(found.labelEvents.enumerated().map { event($0, $1) })
        case ("POST", "notes", 2):
            guard let text = fields["body"] as? String, !text.isEmpty else { return .message(400, "body is missing") }
            guard text.count <= 1_000_000 else {
                return .message(400, "note is too long (maximum is 1000000 characters)")
            }
            return write(text, number, &model)
        case ("PUT", nil, 1):
            func names(_ key: String) -> [String] {
                (fields[key] as? String ?? "").split(separator: ",").map(String.init)
            }
            let (adding, removing) = (names("add_labels"), names("remove_labels"))
            let changed = model.change(number) { issue in
                for name in adding { issue.add(label: name, by: .bot) }
                for name in removing { issue.remove(label: name, by: .bot) }
                return issue
            }
            return .json(issue(changed))
        default: return .message(404, "404 Not Found")
        }
    }

    /// A line that is a quick action is carried out and does not become a part of the note.
    private func write(_ text: String, _ number: Int, _ model: inout Model) -> Reply {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let note = lines.filter { $0 != "/close" }.joined(separator: "\n")
        let changed = model.change(number) { issue in
            if lines.contains("/close") { issue.isClosed = true }
            if !note.isEmpty { issue.comment(note, by: .bot) }
            return issue
        }
        guard !note.isEmpty, let last = changed.comments.last else {
            return .json(
                ["commands_changes": ["state_event": "close"], "summary": ["Closed this issue."]], status: 202)
        }
        return .json(self.note(last), status: 201)
    }

    private func list(_ query: [String: String], _ model: Model, _ page: Page) -> Reply {
        let wanted = (query["labels"] ?? "").split(separator: ",").map(String.init)
        let found = model.issues.values.filter { issue in
            !issue.isPullRequest && (query["state"].map { issue.isClosed == ($0 == "closed") } ?? true)
                && Set(wanted).isSubset(of: issue.labels)
                && (query["assignee_username"].map { issue.assignees.contains($0) } ?? true)
        }
        let sorted = found.sorted { $0.number < $1.number }
        return page.reply((query["sort"] == "asc" ? sorted : sorted.reversed()).map(issue))
    }

    private func user(_ user: FakeUser) -> [String: Any] {
        ["id": user.id, "username": user.name, "name": user.name, "state": "active"]
    }

    private func issue(_ issue: FakeIssue) -> [String: Any] {
        [
            "id": 100_000 + issue.number, "iid": issue.number, "project_id": 4, "title": issue.title,
            "description": issue.body.isEmpty ? NSNull() : issue.body, "state": issue.isClosed ? "closed" : "opened",
            "labels": issue.labels, "author": user(.person), "user_notes_count": issue.comments.count,
            "assignees": issue.assignees.map { ["id": 1, "username": $0, "state": "active"] as [String: Any] },
            "created_at": time(issue.createdAt), "updated_at": time(issue.updatedAt), "confidential": false,
        ]
    }

    private func note(_ comment: FakeIssue.Comment) -> [String: Any] {
        [
            "id": comment.id, "body": comment.text, "author": user(comment.author), "system": comment.isSystem,
            "created_at": time(comment.at), "updated_at": time(comment.at), "noteable_type": "Issue", "internal": false,
        ]
    }

    private func event(_ index: Int, _ event: FakeIssue.LabelEvent) -> [String: Any] {
        [
            "id": index + 1, "action": event.isAdded ? "add" : "remove", "user": user(event.author),
            "label": ["id": 1, "name": event.label, "color": "#ededed"], "created_at": time(event.at),
            "resource_type": "Issue",
        ]
    }

    /// With milliseconds, and in the time zone of the instance, as GitLab sends.
    private func time(_ date: Date) -> String {
        let format = ISO8601DateFormatter()
        format.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
        format.timeZone = TimeZone(secondsFromGMT: 7200)
        return format.string(from: date)
    }
}

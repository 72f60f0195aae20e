import Foundation

/// GitHub's answers.
///
/// See: docs.github.com, "REST API endpoints for issues", "… for issue comments", "… for labels", "… for issue events"
/// and "… for users", version 2022-11-28.
struct FakeGitHub: Face {
    let repository: String

    func reply(to request: FakeForge.Request, _ model: inout Model, page: Page) -> Reply {
        guard request.headers["user-agent"]?.isEmpty == false else {
            return .message(
                403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent")
        }
        guard request.headers["authorization"] == "Bearer \(FakeForge.token)" else {
            return .message(401, "Bad credentials")
        }
        let prefix = ["repos"] + repository.split(separator: "/").map(String.init) + ["issues"]
        let path = request.segments
        if path == ["user"] { return .json(user(.bot)) }
        guard path.starts(with: prefix) else { return .message(404, "Not Found") }
        let rest = Array(path.dropFirst(prefix.count))
        if rest.isEmpty, request.method == "GET" { return list(request.query, model, page) }
        guard let number = rest.first.flatMap({ Int($0) }), let found = model.issues[number] else {
            return .message(404, "Not Found")
        }
        let fields = (try? JSONSerialization.jsonObject(with: Data(request.body.utf8))) as? [String: Any] ?? [:]
        switch (request.method, rest.dropFirst().first, rest.count) {
        case ("GET", nil, 1): return .json(issue(found))
        case ("GET", "comments", 2): return page.reply(found.comments.map(comment))
        case ("GET", "events", 2): return page.reply(found.labelEvents.enumerated().map { event($0, $1) })
        case ("POST", "comments", 2):
            guard let text = fields["body"] as? String, !text.isEmpty else { return .message(422, "Validation Failed") }
            guard text.count <= 65_536 else { return .message(422, "body is too long (maximum is 65536 characters)") }
            let changed = model.change(number) { issue in
                issue.comment(text, by: .bot)
                return issue
            }
            return .json(comment(changed.comments.last!), status: 201)
        case ("POST", "labels", 2):
            guard let names = fields["labels"] as? [String] else { return .message(422, "Validation Failed") }
            let changed = model.change(number) { issue in
                for name in names { issue.add(label: name, by: .bot) }
                return issue
            }
            return .json(changed.labels.map(label))
        case ("DELETE", "labels", 3):
            let (wasThere, changed) = model.change(number) { issue in
                let wasThere = issue.remove(label: rest[2], by: .bot)
                return (wasThere, issue)
            }
            return wasThere ? .json(changed.labels.map(label)) : .message(404, "Label does not exist")
        default: return .message(404, "Not Found")
        }
    }

    private func list(_ query: [String: String], _ model: Model, _ page: Page) -> Reply {
        let wanted = (query["labels"] ?? "").split(separator: ",").map { $0.lowercased() }
        let assignee = query["assignee"]
        let found = model.issues.values.filter { issue in
            (query["state"] == "all" || issue.isClosed == (query["state"] == "closed"))
                && Set(wanted).isSubset(of: issue.labels.map { $0.lowercased() })
                && (assignee.map { issue.assignees.contains($0) } ?? true)
        }
        // "direction" has the default "desc" when "sort" is "created".
        let sorted = found.sorted { $0.number < $1.number }
        return page.reply((query["direction"] == "asc" ? sorted : sorted.reversed()).map(issue))
    }

    private func user(_ user: FakeUser) -> [String: Any] {
        ["login": user.name, "id": user.id, "node_id": "U_\(user.id)", "type": "User", "site_admin": false]
    }

    private func label(_ name: String) -> [String: Any] {
        [
            "id": abs(name.hashValue % 100_000), "name": name, "color": "ededed", "default": false,
            "description": NSNull(),
        ]
    }

    private func issue(_ issue: FakeIssue) -> [String: Any] {
        var answer: [String: Any] = [
            "id": 100_000 + issue.number, "number": issue.number, "title": issue.title,
            "body": issue.body.isEmpty ? NSNull() : issue.body, "state": issue.isClosed ? "closed" : "open",
            "user": user(.person), "labels": issue.labels.map(label), "comments": issue.comments.count,
            "assignees": issue.assignees.map { ["login": $0, "id": 1, "type": "User"] as [String: Any] },
            "created_at": time(issue.createdAt), "updated_at": time(issue.updatedAt), "locked": false,
            "closed_at": issue.isClosed ? time(issue.updatedAt) : NSNull(),
        ]
        if issue.isPullRequest { answer["pull_request"] = ["url": "https://api.example.org/pulls/\(issue.number)"] }
        return answer
    }

    private func comment(_ comment: FakeIssue.Comment) -> [String: Any] {
        [
            "id": comment.id, "body": comment.text, "user": user(comment.author),
            "created_at": time(comment.at), "updated_at": time(comment.at), "author_association": "MEMBER",
        ]
    }

    private func event(_ index: Int, _ event: FakeIssue.LabelEvent) -> [String: Any] {
        [
            "id": index + 1, "event": event.isAdded ? "labeled" : "unlabeled", "actor": user(event.author),
            "label": ["name": event.label, "color": "ededed"], "created_at": time(event.at), "commit_id": NSNull(),
        ]
    }

    /// Whole seconds, as GitHub sends.
    private func time(_ date: Date) -> String { date.formatted(.iso8601) }
}

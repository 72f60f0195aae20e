import Foundation
import NIOHTTP1
import Registry

/// The issues of a repository on GitHub, or on a GitHub Enterprise Server.
///
/// See: docs.github.com, "REST API endpoints for issues", "… for issue comments", "… for labels", "… for issue events"
/// and "… for users", version 2022-11-28.
struct GitHub: Forge {
    let client: ForgeClient
    let repository: String
    let labels: Labels

    /// A longer one is answered with "body is too long (maximum is 65536 characters)".
    let longestComment = 65_536

    /// See: docs.github.com, "Getting started with the REST API", "Headers", and "Authenticating to the REST API".
    static func headers(_ token: Token) -> HTTPHeaders {
        [
            "Accept": "application/vnd.github+json", "Authorization": token.header("Bearer "),
            "User-Agent": "wtengine", "X-GitHub-Api-Version": "2022-11-28",
        ]
    }

    private var issues: [String] { ["repos"] + repository.split(separator: "/").map(String.init) + ["issues"] }

    private let wholePages = ("per_page", "100")

    func user() async throws(ForgeFailure) -> Int {
        try await client.get(User.self, ["user"]).id
    }

    func issues(labelled wanted: Set<String>, assignedTo assignee: String) async throws(ForgeFailure) -> [Issue] {
        // A label with a comma cannot be asked for. Whoever asked looks at the labels again.
        let listed = wanted.filter { !$0.contains(",") }.sorted().joined(separator: ",")
        let answers = try await client.list(
            IssueAnswer.self, issues,
            [
                ("state", "open"), ("labels", listed), ("assignee", assignee), ("sort", "created"),
                ("direction", "asc"), wholePages,
            ].filter { !$0.1.isEmpty })
        var result: [Issue] = []
        // "GitHub's REST API considers every pull request an issue."
        for answer in answers where answer.pullRequest == nil { result.append(try issue(answer, naming: wanted)) }
        return result
    }

    func issue(_ number: Int) async throws(ForgeFailure) -> Issue {
        do throws(ForgeFailure) {
            let answer = try await client.get(IssueAnswer.self, issues + ["\(number)"])
            guard answer.pullRequest == nil else {
                throw ForgeFailure(.missing, "\(repository)#\(number) is a pull request, not an issue.")
            }
            return try issue(answer)
        } catch {
            throw error.ofIssue("\(repository)#\(number)")
        }
    }

    func comments(on number: Int) async throws(ForgeFailure) -> [ForgeComment] {
        // "Issue comments are ordered by ascending ID."
        try await client.list(CommentAnswer.self, issues + ["\(number)", "comments"], [wholePages])
            .map { ForgeComment(author: $0.user?.id, text: $0.body ?? "", createdAt: $0.createdAt) }
    }

    func comment(_ text: String, on number: Int) async throws(ForgeFailure) {
        try await client.change(
            .POST, issues + ["\(number)", "comments"], ["body": text], isRepeatable: false)
    }

    func labelChanges(of number: Int) async throws(ForgeFailure) -> [LabelChange] {
        try await client.list(EventAnswer.self, issues + ["\(number)", "events"], [wholePages])
            .compactMap { event in
                guard let label = event.label, event.event == "labeled" || event.event == "unlabeled" else {
                    return nil
                }
                return LabelChange(
                    label: spelled(label.name), isAdded: event.event == "labeled", at: event.createdAt)
            }
    }

    func changeLabels(of number: Int, adding: [String], removing: [String]) async throws(ForgeFailure) {
        let path = issues + ["\(number)", "labels"]
        if !adding.isEmpty { try await client.change(.POST, path, ["labels": adding], isRepeatable: true) }
        for label in removing {
            do throws(ForgeFailure) {
                try await client.change(.DELETE, path + [label], isRepeatable: true)
            } catch {
                // 404: somebody else took it off, or an attempt of which the answer was lost.
                guard error.status == 404 else { throw error }
            }
        }
    }

    // MARK: Answers

    private struct User: Decodable { let id: Int }

    private struct Assignee: Decodable { let login: String }

    private struct IssueAnswer: Decodable {
        struct PullRequest: Decodable {}
        let number: Int
        let title: String
        let body: String?
        let state: String
        let labels: [LabelAnswer]
        let assignees: [Assignee]?
        let updatedAt: Date
        let pullRequest: PullRequest?
    }

    /// An object with a name, or the name alone: the schema of an issue has both.
    private struct LabelAnswer: Decodable {
        let name: String

        private enum Key: CodingKey { case name }

        init(from decoder: any Decoder) throws {
            if let text = try? decoder.singleValueContainer().decode(String.self) {
                name = text
            } else {
                name = try decoder.container(keyedBy: Key.self).decodeIfPresent(String.self, forKey: .name) ?? ""
            }
        }
    }

    private struct CommentAnswer: Decodable {
        let user: User?
        let body: String?
        let createdAt: Date
    }

    private struct EventAnswer: Decodable {
        let event: String
        let label: LabelAnswer?
        let createdAt: Date
    }

    private func issue(_ answer: IssueAnswer, naming more: Set<String> = []) throws(ForgeFailure) -> Issue {
        let names = Set(answer.labels.map { spelled($0.name, more) })
        return Issue(
            ref: try ref(answer.number), title: answer.title, body: answer.body ?? "", labels: names,
            assignees: (answer.assignees ?? []).map(\.login), isClosed: answer.state != "open",
            isGated: labels.isGated(names), updatedAt: answer.updatedAt)
    }

    /// A label as we spell it. To GitHub `Needs-Human` and `needs-human` are one label, so they must be one to us.
    private func spelled(_ name: String, _ more: Set<String> = []) -> String {
        more.union(labels.all).first { $0.lowercased() == name.lowercased() } ?? name
    }
}

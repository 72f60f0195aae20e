import Foundation
import NIOHTTP1
import Registry

/// The issues of a project on GitLab, in however many groups.
///
/// See: docs.gitlab.com, "Issues API", "Notes API", "Resource label events API", "Users API", and "REST API",
/// "Namespaced paths".
struct GitLab: Forge {
    let client: ForgeClient
    let repository: String
    let labels: Labels

    /// See: docs.gitlab.com, "Notes API", "Create an issue note": "Limited to 1,000,000 characters."
    let longestComment = 1_000_000

    /// See: docs.gitlab.com, "REST API authentication", "Personal, project, and group access tokens".
    static func headers(_ token: Token) -> HTTPHeaders {
        ["Accept": "application/json", "PRIVATE-TOKEN": token.header(), "User-Agent": "wtengine"]
    }

    /// The whole path of the project is one segment.
    private var issues: [String] { ["projects", repository, "issues"] }

    /// Fewer than there could be: an issue or a note may have a megabyte.
    private let shortPages = ("per_page", "20")

    func user() async throws(ForgeFailure) -> Int {
        try await client.get(User.self, ["user"]).id
    }

    func issues(labelled wanted: Set<String>, assignedTo assignee: String) async throws(ForgeFailure) -> [Issue] {
        let answers = try await client.list(
            IssueAnswer.self, issues,
            [
                ("state", "opened"), ("labels", wanted.sorted().joined(separator: ",")),
                ("assignee_username", assignee), ("order_by", "created_at"), ("sort", "asc"), shortPages,
            ].filter { !$0.1.isEmpty })
        var result: [Issue] = []
        for answer in answers { result.append(try issue(answer)) }
        return result
    }

    func issue(_ number: Int) async throws(ForgeFailure) -> Issue {
        do throws(ForgeFailure) {
            return try issue(await client.get(IssueAnswer.self, issues + ["\(number)"]))
        } catch {
            throw error.ofIssue("\(repository)#\(number)")
        }
    }

    func comments(on number: Int) async throws(ForgeFailure) -> [ForgeComment] {
        try await client.list(
            NoteAnswer.self, issues + ["\(number)", "notes"],
            [("sort", "asc"), ("order_by", "created_at"), shortPages]
        )
        .filter { !$0.system }
        .map { ForgeComment(author: $0.author?.id, text: $0.body ?? "", createdAt: $0.createdAt) }
    }

    func comment(_ text: String, on number: Int) async throws(ForgeFailure) {
        try await client.change(
            .POST, issues + ["\(number)", "notes"], ["body": Self.withoutActions(text)], isRepeatable: false)
    }

    func labelChanges(of number: Int) async throws(ForgeFailure) -> [LabelChange] {
        try await client.list(EventAnswer.self, issues + ["\(number)", "resource_label_events"], [shortPages])
            .compactMap { event in
                // The label is null when it was deleted since.
                event.label.map { LabelChange(label: $0.name, isAdded: event.action == "add", at: event.createdAt) }
            }
    }

    func changeLabels(of number: Int, adding: [String], removing: [String]) async throws(ForgeFailure) {
        guard !adding.isEmpty || !removing.isEmpty else { return }
        try await client.change(
            .PUT, issues + ["\(number)"],
            ["add_labels": adding.joined(separator: ","), "remove_labels": removing.joined(separator: ",")]
                .filter { !$0.value.isEmpty },
            isRepeatable: true)
    }

    /// A text in which no line is a quick action: `/close` at the beginning of one would close the issue, and much of the
    /// text was written by a worker. In Markdown `\/` is a slash.
    ///
    /// See: docs.gitlab.com, "GitLab quick actions".
    static func withoutActions(_ text: String) -> String {
        var result: [UInt8] = []
        var isAtBeginning = true
        for byte in text.utf8 {
            if byte == UInt8(ascii: "/"), isAtBeginning { result.append(UInt8(ascii: "\\")) }
            let isBlank = " \t\r\u{0B}\u{0C}".utf8.contains(byte)
            isAtBeginning = byte == UInt8(ascii: "\n") || (isAtBeginning && isBlank)
            result.append(byte)
        }
        return String(decoding: result, as: UTF8.self)
    }

    // MARK: Answers

    private struct User: Decodable { let id: Int }

    private struct Assignee: Decodable { let username: String }

    private struct IssueAnswer: Decodable {
        let iid: Int
        let title: String
        let description: String?
        let state: String
        let labels: [String]
        let assignees: [Assignee]?
        let updatedAt: Date
    }

    private struct NoteAnswer: Decodable {
        let author: User?
        let body: String?
        let system: Bool
        let createdAt: Date
    }

    private struct EventAnswer: Decodable {
        struct Label: Decodable { let name: String }
        let action: String
        let label: Label?
        let createdAt: Date
    }

    private func issue(_ answer: IssueAnswer) throws(ForgeFailure) -> Issue {
        let names = Set(answer.labels)
        return Issue(
            ref: try ref(answer.iid), title: answer.title, body: answer.description ?? "", labels: names,
            assignees: (answer.assignees ?? []).map(\.username), isClosed: answer.state != "opened",
            isGated: labels.isGated(names), updatedAt: answer.updatedAt)
    }
}

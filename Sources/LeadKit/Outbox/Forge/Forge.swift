import Foundation
import Registry

/// What an outbox needs of a forge, in the forge's own requests. Issues go by their number in the repository.
protocol Forge: Sendable {
    var client: ForgeClient { get }
    /// The part of an ``IssueRef`` before the `#`.
    var repository: String { get }
    /// How many characters a comment may have.
    var longestComment: Int { get }

    /// The id of the token's user.
    func user() async throws(ForgeFailure) -> Int
    /// Open issues with all labels that are assigned to a user, oldest first; without pull requests.
    func issues(labelled labels: Set<String>, assignedTo assignee: String) async throws(ForgeFailure) -> [Issue]
    func issue(_ number: Int) async throws(ForgeFailure) -> Issue
    /// What people and programs wrote, oldest first; without what the forge itself notes.
    func comments(on number: Int) async throws(ForgeFailure) -> [ForgeComment]
    /// Writes a comment, as plain as can be: nothing in the text makes the forge do anything.
    func comment(_ text: String, on number: Int) async throws(ForgeFailure)
    /// Every time that a label was put on the issue or taken off, oldest first.
    func labelChanges(of number: Int) async throws(ForgeFailure) -> [LabelChange]
    /// Puts labels on and takes labels off. Doing it twice is doing it once.
    func changeLabels(of number: Int, adding: [String], removing: [String]) async throws(ForgeFailure)
}

extension Forge {
    func ref(_ number: Int) throws(ForgeFailure) -> IssueRef {
        do {
            return try IssueRef("\(repository)#\(number)")
        } catch {
            throw ForgeFailure(.damaged, "the forge answered with an issue without a proper number: \(error)")
        }
    }
}

/// A comment.
struct ForgeComment: Sendable, Hashable {
    /// The id of its author; nil when the account is gone.
    let author: Int?
    let text: String
    let createdAt: Date
}

/// A label was put on an issue, or taken off.
struct LabelChange: Sendable, Hashable {
    let label: String
    let isAdded: Bool
    let at: Date
}

extension Labels {
    /// Every label that an outbox ever sets.
    var all: Set<String> { stateNames.union([needsHuman]) }
}

extension ForgeFailure {
    /// The same, for the request of one issue: that it is not there is an answer of its own.
    func ofIssue(_ ref: String) -> ForgeFailure {
        guard status == 404 || status == 410 else { return self }
        return ForgeFailure(
            .missing, "\(ref) is not there, or the token's user may not see it. Check the reference and the token.",
            status: status)
    }
}

import ArgumentParser
import CommandKit
import Foundation
import WorktreeEngine

struct Audit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Print the audit log, oldest first.",
        discussion: """
            Every change of a run, and every refusal, with when and by whom. --json prints one object a line.

              wtengine audit --issue local#12
              wtengine audit --since 2h --json
              wtengine audit --since 2026-02-14T10:00:00Z
            """)

    @Option(help: ArgumentHelp("Only events of this issue.", valueName: "issue"), transform: { try IssueRef($0) })
    var issue: IssueRef?

    @Option(help: ArgumentHelp("Only events of runs with this id.", valueName: "run"), transform: { try RunID($0) })
    var run: RunID?

    @Option(
        help: ArgumentHelp(
            "Only events since a date, a date with time and zone, or a time ago (90s, 30m, 2h, 7d).", valueName: "time"),
        transform: { try Timestamp.parse($0) })
    var since: Date?

    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let events = try await global.openToLook()?.audit(issue: issue, run: run, since: since) ?? []
        if events.isEmpty {
            if Console.isRead, !global.json { Console.tell("No events match.") }
            return
        }
        if global.json { return try Console.answer(events.map(\.json.description).joined(separator: "\n")) }
        let rows = events.map { event in
            [
                Timestamp.short(event.at), event.actor, event.key?.issue.description ?? "-",
                event.key?.run.description ?? "-", event.action.rawValue, event.step, event.detail ?? "",
            ]
        }
        let header = ["TIME", "ACTOR", "ISSUE", "RUN", "ACTION", "STATE", "DETAIL"]
        try Console.answer(Table(header: header, rows: rows).text)
    }
}

extension AuditEvent {
    fileprivate var json: JSON {
        [
            "id": .number(id), "at": .date(at), "actor": .text(actor), "issue": .text(key?.issue.description),
            "run": .text(key?.run.description), "path": .text(path), "action": .text(action.rawValue),
            "from": .text(from?.rawValue), "to": .text(to?.rawValue), "detail": .text(detail),
        ]
    }

    /// The change of state, or the state that stayed.
    fileprivate var step: String {
        switch (from?.rawValue, to?.rawValue) {
        case (let from?, let to?): from == to ? to : "\(from)>\(to)"
        case (nil, let to?): ">\(to)"
        case (let from?, nil): "\(from)>"
        case (nil, nil): "-"
        }
    }
}

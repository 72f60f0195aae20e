import CommandKit
import WorktreeEngine

extension SweepReport {
    /// The report as programs read it.
    var json: JSON {
        [
            "cleaned": .array(cleaned.map(\.json)), "quarantined": .array(quarantined.map(Self.json)),
            "skipped": .array(skipped.map(Self.json)), "pruned": .array(pruned.map(\.json)),
            "emptied": .number(emptied),
            "trashLeft": .array(
                trashLeft.map { ["path": .text($0.path), "reason": .text(Suggestion.complete($0.reason))] }),
            "slotsFilled": .number(slotsFilled), "slotsRenewed": .number(slotsRenewed),
            "poolsLeft": .array(
                poolsLeft.map { ["repo": .text($0.repository), "reason": .text(Suggestion.complete($0.reason))] }),
        ]
    }

    /// A line for everything that was done or left; empty when there was nothing.
    var lines: [String] {
        let left =
            quarantined.map { "quarantined \($0.run): \($0.reason)" }
            + skipped.map { "skipped \($0.run): \($0.reason)" }
            + trashLeft.map { "could not unlink \($0.path): \($0.reason)" }
            + poolsLeft.map { "could not fill the pool of \($0.repository): \($0.reason)" }
        let slots =
            (slotsFilled > 0 ? ["filled \(slotsFilled)"] : [])
            + (slotsRenewed > 0 ? ["brought \(slotsRenewed) forward"] : [])
        return cleaned.map { "cleaned \($0)" } + pruned.map { "pruned \($0)" } + left.map(Suggestion.complete)
            + (slots.isEmpty ? [] : ["slots of pools: \(slots.joined(separator: ", "))"])
            + (emptied > 0 ? ["emptied \(emptied) from the trash"] : [])
    }

    private static func json(_ item: (run: RunKey, reason: String)) -> JSON {
        item.run.json.adding(["reason": .text(Suggestion.complete(item.reason))])
    }
}

extension GlobalOptions {
    /// Prints lines, or what to say to a person when there are none.
    func answer(json document: JSON, lines: [String], orTell nothing: String) throws {
        if json || !lines.isEmpty {
            try answer(json: document, text: lines.joined(separator: "\n"))
        } else if Console.isRead {
            Console.tell(nothing)
        }
    }
}

extension Engine {
    /// Waits for the unlinking of what this process has removed. The runs are gone already: a failure here costs disk
    /// space only, so it is said and does not fail the command.
    func emptyTrash() async {
        let left = await finishTrash()
        guard left > 0 else { return }
        Console.tell(
            Suggestion.complete(
                "\(left) removed workdir(s) could not be unlinked yet; the next `wtengine sweep` does it."))
    }
}

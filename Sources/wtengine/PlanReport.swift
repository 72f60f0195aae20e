import CommandKit
import WorktreeEngine

/// A cleanup plan as people and programs read it.
struct PlanReport {
    let plan: CleanupPlan

    var json: JSON {
        plan.run.key.json.adding([
            "token": .text(plan.token), "risks": .array(plan.risks.map(\.json)),
            "ignored": .array(plan.ignored.map { .text($0) }),
            "processes": .array(
                plan.processes.map { ["pid": .number($0.pid), "name": .text($0.name), "holds": .text($0.holds)] }),
            "branchToDelete": .text(plan.branchToDelete), "missing": .bool(plan.isMissing),
            "path": .text(plan.run.path), "lockReason": .text(plan.run.lockReason),
        ])
    }

    /// The plan and what to do next.
    var text: String { ([summary, ""] + advice).joined(separator: "\n") }

    /// What the plan found.
    var summary: String {
        var lines = [
            plan.run.line,
            "workdir  \(Table.visible(plan.run.path))\(plan.isMissing ? " (missing: only its admin entry is left)" : "")",
            "branch   \(branch)",
        ]
        if let reason = plan.run.lockReason { lines.append("locked   \(Table.visible(reason))") }
        lines += section("work at risk", plan.risks) { risk in
            let kind = risk.kind.rawValue + String(repeating: " ", count: max(0, 18 - risk.kind.rawValue.count))
            return "\(kind) \(Table.visible(risk.path))\(risk.detail.isEmpty ? "" : " (\(Table.visible(risk.detail)))")"
        }
        // Risks are never cut short, since a person decides by them. Ignored files may be thousands.
        lines += section("ignored files that go with it", plan.ignored.prefix(20), of: plan.ignored.count) {
            Table.visible($0)
        }
        lines += section("inside", plan.processes) { "\($0.pid) \(Table.visible($0.name)) (\($0.holds))" }
        lines.append("token    \(plan.token)")
        return lines.joined(separator: "\n")
    }

    private var branch: String {
        if let branch = plan.branchToDelete { return "\(branch) (goes with it)" }
        return plan.run.branch.map { "\($0) (stays)" } ?? "none (detached HEAD)"
    }

    /// What to do next.
    private var advice: [String] {
        let command = "wtengine cleanup \(plan.run.key)\(Suggestion.options) --confirm \(plan.token)"
        if let reason = plan.run.lockReason {
            return [
                "Cannot be confirmed while it is locked (\(Table.visible(reason))). To release it:",
                "  wtengine unlock \(plan.run.key)\(Suggestion.options)",
            ]
        }
        if !plan.processes.isEmpty {
            return [
                "Cannot be confirmed while processes are inside. End them, then plan again:",
                "  wtengine cleanup \(plan.run.key)\(Suggestion.options)",
            ]
        }
        if plan.risks.isEmpty { return ["To clean up:", "  \(command)"] }
        return [
            "Refused while work is at risk. Commit or move it, then plan again; or drop it for good:",
            "  \(command) --discard",
        ]
    }

    private func section<Items: Collection>(
        _ title: String, _ items: Items, of total: Int? = nil, _ line: (Items.Element) -> String
    ) -> [String] {
        guard !items.isEmpty else { return [] }
        let more = (total ?? items.count) - items.count
        return ["\(title) (\(total ?? items.count)):"] + items.map { "  \(line($0))" }
            + (more > 0 ? ["  and \(more) more; --json lists them all"] : [])
    }
}

extension Risk {
    var json: JSON { ["kind": .text(kind.rawValue), "path": .text(path), "detail": .text(detail)] }
}

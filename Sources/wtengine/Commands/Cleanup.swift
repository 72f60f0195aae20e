import ArgumentParser
import CommandKit
import WorktreeEngine

struct Cleanup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cleanup",
        abstract: "Plan the removal of a workdir, and carry it out when confirmed.",
        discussion: """
            Without --confirm it prints what would go, what is at risk and a token, and changes nothing; on a terminal \
            it then asks for the run id and goes ahead when that is typed. The exit code is 5 when work is at risk, and 3 \
            when the plan could not be confirmed, since it is locked or a process is inside.

              wtengine cleanup local#12 2026-02-14-backend-0001
              wtengine cleanup local#12 2026-02-14-backend-0001 --confirm TOKEN

            The token stands for the work and the files that were printed: when any of them has changed since, the \
            cleanup is refused and the new plan is printed. A process inside and a lock refuse it whatever the token \
            says, and are looked at again. Work at risk is dropped only with --discard, and the audit log says so. The run's \
            branch stays when it has commits that nothing else reaches.
            """)

    @OptionGroup var target: RunArguments

    @Option(help: ArgumentHelp("Carry out the plan with this token.", valueName: "token"))
    var confirm: String?

    @Flag(help: "Drop the work that the plan says is at risk, for good.")
    var discard = false

    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let engine = try await global.openEngine()
        let plan = try await engine.planCleanup(target.key)
        if let confirm {
            guard plan.token == confirm else {
                throw changed(
                    "the token \(confirm.debugDescription) is not that of the plan for \(target.key) as it is now. "
                        + "Read the new plan, then confirm with its token.", plan)
            }
            return try await carryOut(plan, engine)
        }
        let isRefused = !plan.risks.isEmpty
        let isBlocked = !plan.processes.isEmpty || plan.run.lockReason != nil
        guard Console.isInteractive, !global.json, !isBlocked, !isRefused || discard else {
            try answer(plan)
            if isRefused { throw ExitStatus.refused.code }
            if isBlocked { throw ExitStatus.blocked.code }
            return
        }
        // No advice: what to do next is asked here.
        try Console.answer(report(plan).summary)
        try askPerson(plan)
        try await carryOut(plan, engine)
    }

    private func askPerson(_ plan: CleanupPlan) throws {
        if !plan.risks.isEmpty { Console.tell("\n--discard drops all the work at risk above for good.") }
        let answer = Console.ask("\nType the run id to go ahead: ")
        guard answer == target.run.description else {
            // The end of the input leaves the cursor behind the question.
            Console.tell(answer == nil ? "\nNothing was changed." : "That is not the run id. Nothing was changed.")
            throw ExitStatus.failed.code
        }
    }

    private func carryOut(_ plan: CleanupPlan, _ engine: Engine) async throws {
        let report: CleanupReport
        do {
            report = try await engine.cleanup(plan, discard: discard)
        } catch {
            throw try await refusal(error, engine)
        }
        let details: JSON = [
            "deletedBranch": .text(report.deletedBranch), "discarded": .array(report.discarded.map(\.json)),
        ]
        try global.answer(json: report.run.json.adding(details), text: report.run.line)
        if !global.json {
            if let branch = report.deletedBranch { Console.tell("deleted branch \(branch)") }
            for risk in report.discarded { Console.tell("dropped \(risk.kind.rawValue) \(Table.visible(risk.path))") }
            for risk in plan.risks where !report.discarded.contains(risk) && discard {
                Console.tell("kept \(risk.kind.rawValue) \(Table.visible(risk.path)) (\(Table.visible(risk.detail)))")
            }
        }
        if report.trashPending { await engine.emptyTrash() }
    }

    /// Shows the plan as it is now beside a refusal that has to do with it. The engine decides, and notes it in the audit
    /// log; what came up after the first plan is in the new one.
    private func refusal(_ error: EngineError, _ engine: Engine) async throws -> any Error {
        switch error.code {
        case .planChanged: return changed(error.message, try await engine.planCleanup(target.key))
        case .workAtRisk: try answer(try await engine.planCleanup(target.key))
        default: break
        }
        return error
    }

    private func report(_ plan: CleanupPlan) -> PlanReport { PlanReport(plan: plan) }

    private func answer(_ plan: CleanupPlan) throws {
        try global.answer(json: report(plan).json, text: report(plan).text)
    }

    private func changed(_ message: String, _ plan: CleanupPlan) -> Failure {
        var failure = Failure(.planChanged, message)
        failure.plan = (report(plan).text, report(plan).json)
        return failure
    }
}

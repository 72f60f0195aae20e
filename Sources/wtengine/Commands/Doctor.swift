import ArgumentParser
import CommandKit
import WorktreeEngine

struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Say what is wrong, and which command mends it.",
        discussion: """
            Looks at the registry, the roots and whether they have snapshots, the runs and the pools; with --repo also \
            at what serves that repository and why. Exits with 1 when anything does not work. Changes no run, no pool \
            and no repository; like every command it makes the state directory when there is none.

              wtengine doctor --repo ~/src/app
            """)

    @Option(help: ArgumentHelp("A path in a repository to look at as well.", valueName: "path"))
    var repo: String?

    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let findings = try await self.findings().map {
            (
                level: $0.level, message: Suggestion.complete(global.json ? $0.message : Table.visible($0.message)),
                remedy: $0.remedy.map { Suggestion.completeRemedy(global.json ? $0 : Table.visible($0)) }
            )
        }
        try global.answer(
            json: .array(
                findings.map {
                    ["level": .text($0.level.rawValue), "message": .text($0.message), "remedy": .text($0.remedy)]
                }),
            lines: findings.map { "\($0.level.rawValue): \($0.message)" + ($0.remedy.map { "\n    \($0)" } ?? "") },
            orTell: "Nothing is wrong.")
        if findings.contains(where: { $0.level == .error }) { throw ExitStatus.failed.code }
    }

    private typealias Item = (level: Finding.Level, message: String, remedy: String?)

    /// What keeps the engine from opening is the first thing a person wants from a doctor, so it is a finding as well.
    private func findings() async throws -> [Item] {
        let engine: Engine
        do {
            engine = try await global.openEngine()
        } catch let error as EngineError {
            let mends = error.code == .registryCorrupt ? "wtengine recover --rebuild" : nil
            return [(.error, error.description, mends)]
        } catch let error as Failure where error.code == .configuration {
            return [(.error, "\(error.code): \(error.message)", nil)]
        }
        return try await engine.doctor(repository: repo).map { ($0.level, $0.message, $0.remedy) }
    }
}

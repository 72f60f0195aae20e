import ArgumentParser
import CommandKit
import Dispatch
import Foundation
import LeadKit
import Logging
import Settings
import WorktreeEngine

struct RunLead: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Work until stopped, or with --once until nothing is left to do.",
        discussion: """
            Takes open issues that carry state:todo and the listen labels of a group in workflow.toml, are assigned to \
            lead-<role> and are not gated, and runs the worker command for each in a clean workdir:

              wtengine lead run --profile workflow.toml --worker 'my-agent'

            The worker finds its order in $WTENGINE_WORK_ORDER and leaves its result in $WTENGINE_RESULT. When it has \
            ended, the issue becomes state:review or state:blocked and gets an event that says what happened. A worker \
            that dies or outlives its lease is replaced once, with a new run in a new workdir.

            SIGTERM and SIGINT stop it: no more issues are taken, workers are waited for during the grace period, and \
            those that still run are left to the next Lead. It may be killed at any time, and goes on where it was.

            The token of a forge comes from $GITHUB_TOKEN, $GH_TOKEN or $GITLAB_TOKEN; workers do not get it.
            """)

    @Option(help: ArgumentHelp("The workflow.toml of the project.", valueName: "file"))
    var profile: String

    @Option(help: ArgumentHelp("Run by /bin/sh -c in the workdir of each run.", valueName: "command"))
    var worker: String

    @Flag(help: "Take what is there, each issue once, and exit when all of it has ended.")
    var once = false

    @Option(help: ArgumentHelp("Whose issues to take. (default: lead-<role>)", valueName: "name"))
    var actor: String?

    @Option(
        name: .customLong("role"),
        help: ArgumentHelp("Work for this role only; may be repeated. (default: all enabled roles)", valueName: "role"),
        transform: { try Role($0) })
    var roles: [Role] = []

    @Option(
        help: ArgumentHelp("How often to look for issues. (default: 30s)", valueName: "duration"), transform: duration)
    var interval: Duration = .seconds(30)

    @Option(
        help: ArgumentHelp(
            "How long a worker gets to end by itself when its lease is over, or when the Lead stops. (default: 30s)",
            valueName: "duration"), transform: duration)
    var grace: Duration = .seconds(30)

    @Option(help: ArgumentHelp("How many runs in a row an issue gets when workers die or hang.", valueName: "number"))
    var attempts = 2

    @OptionGroup var global: GlobalOptions

    func validate() throws {
        if attempts < 1 { throw ValidationError("--attempts is \(attempts): expected 1 or more.") }
        if worker.isEmpty { throw ValidationError("--worker is empty: give the command of a worker.") }
    }

    func run() async throws {
        // A worker is of the same user, and would find the token in /proc/<pid>/environ.
        do { try ProcessTable.hideMemory() } catch { throw Failure(error) }
        let profile = try loadProfile()
        let unknown = Set(roles).subtracting(profile.roles)
        if let role = unknown.first {
            throw Failure.usage("the role \(role) is not enabled in \(profile.path). Enable it under [roles].")
        }
        let working = roles.isEmpty ? Array(profile.roles) : roles
        let engine = try await Engine.open(profile.workdir)
        let outbox: any Outbox
        do {
            outbox = try profile.openOutbox(
                actor: actor ?? (working.count == 1 ? "lead-\(working[0])" : "lead"),
                environment: ProcessInfo.processInfo.environment,
                logger: Logger(label: "wtengine.outbox"))
        } catch { throw Failure(EngineError(error)) }
        var options = Lead.Options()
        (options.interval, options.grace, options.attempts) = (interval, grace, attempts)
        let lead = Lead(
            profile: profile, engine: engine, outbox: outbox, worker: worker, actor: actor,
            roles: Set(working), options: options)
        let signals = stopOnSignals(lead)
        defer { for source in signals { source.cancel() } }
        let result: Result<Void, EngineError>
        do throws(EngineError) { result = .success(try await lead.run(once: once)) } catch { result = .failure(error) }
        await outbox.close()
        await engine.close()
        try result.get()
    }

    private func loadProfile() throws -> Profile {
        let profile: Profile
        do {
            profile = try Profile.load(try absolutePath(self.profile), state: try global.stateDirectory())
        } catch let error as ProfileError {
            throw Failure(.configuration, error.description, .needsHuman, status: .needsHuman)
        }
        try checkRoots(profile)
        return profile
    }

    /// The commands read config.toml: what they may not touch, no recovery path could clean up.
    private func checkRoots(_ profile: Profile) throws {
        let known = try roots(of: global.configuration())
        for root in roots(of: profile.workdir) where !known.contains(root) {
            let file = "\(profile.workdir.state)/config.toml"
            throw Failure(
                .configuration,
                "the root \(root) of \(profile.path) is not among the roots of \(file), so no command could clean up what "
                    + "this Lead leaves there. Put it into `roots` in that file.", .needsHuman, status: .needsHuman)
        }
    }

    private func roots(of configuration: Configuration) -> [String] {
        let roots = configuration.roots.isEmpty ? ["\(configuration.state)/workdirs"] : configuration.roots
        return roots.map { realPath($0) ?? $0 }
    }

    private func stopOnSignals(_ lead: Lead) -> [any DispatchSourceSignal] {
        [SIGTERM, SIGINT].map { number in
            // The source sees it; the default would end the process.
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { lead.stop() }
            source.activate()
            return source
        }
    }
}

@Sendable private func duration(_ text: String) throws -> Duration {
    guard let duration = Quantity.duration(text) else {
        throw ValidationError("\(text.debugDescription) is not a time: expected \(Quantity.durationForms).")
    }
    return duration
}

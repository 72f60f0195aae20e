import ArgumentParser
import CommandKit
import WorktreeEngine

struct PoolCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pool",
        abstract: "Keep workdirs ready, so that a spawn is a rename.",
        discussion: """
            A slot is a directory with the files of a revision, prepared and never used. spawn takes one when it fits \
            and checks files out otherwise. A slot is taken once; `wtengine sweep` fills the pools again, and an engine \
            that is embedded in a program does so in the background.

              wtengine pool fill --repo ~/src/app --size 4
              wtengine spawn --repo ~/src/app --issue local#12 --run 2026-02-14-backend-0001
            """,
        subcommands: [Fill.self, Status.self, Drain.self])

    struct Fill: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "fill",
            abstract: "Set how many slots a revision of a repository has, and fill up to that now.",
            discussion: """
                The number is kept, and slots follow when the revision moves. Slots that are there are verified; stale \
                ones are replaced. --size 0 empties the pool and forgets it.

                  wtengine pool fill --repo ~/src/app --size 4 --base origin/main
                """)

        @Option(help: ArgumentHelp("A path in the repository.", valueName: "path"))
        var repo: String

        @Option(help: ArgumentHelp("How many slots to keep ready: 0 to 1000.", valueName: "number"))
        var size: Int

        @Option(
            help: ArgumentHelp(
                "The revision that runs begin at (man gitrevisions). (default: the repository's HEAD)", valueName: "rev"
            ))
        var base: String?

        @OptionGroup var global: GlobalOptions

        func validate() throws {
            guard (0...1000).contains(size) else { throw ValidationError("--size is a number from 0 to 1000.") }
        }

        func run() async throws {
            let engine = try await global.openEngine()
            let status = try await engine.fillPool(repository: repo, base: base, size: size)
            try global.answer(
                json: status.json,
                text: size == 0
                    ? "forgot the pool of \(status.repository) at \(status.base)"
                    : "\(status.ready) ready for \(status.base) of \(status.repository)")
            await engine.emptyTrash()
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status",
            abstract: "List the pools.",
            discussion: """
                READY slots serve a spawn from BASE as it is now; STALE ones are of another commit.

                  wtengine pool status
                """)

        @OptionGroup var global: GlobalOptions

        func run() async throws {
            let pools = try await global.openToLook()?.poolStatus() ?? []
            let table = Table(
                header: ["READY", "SIZE", "STALE", "COMMIT", "BASE", "REPOSITORY"],
                rows: pools.map {
                    [
                        "\($0.ready)", "\($0.size)", "\($0.stale)", String(($0.commit ?? "-").prefix(10)), $0.base,
                        $0.repository,
                    ]
                })
            try global.answer(
                json: .array(pools.map(\.json)), lines: pools.isEmpty ? [] : [table.text], orTell: "There is no pool.")
        }
    }

    struct Drain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drain",
            abstract: "Throw all slots of a repository, or of all, away, and forget the pools.",
            discussion: """
                Snapshot templates go as well, which are made anew by the next spawn. Runs and their workdirs are not \
                touched.

                  wtengine pool drain --repo ~/src/app
                """)

        @Option(help: ArgumentHelp("Only what is of the repository at this path.", valueName: "path"))
        var repo: String?

        @OptionGroup var global: GlobalOptions

        func run() async throws {
            let engine = try await global.openEngine()
            let count = try await engine.drainPool(repository: repo)
            try global.answer(json: ["drained": .number(count)], text: "\(count) slot(s) thrown away")
            await engine.emptyTrash()
        }
    }
}

extension PoolStatus {
    /// The pool as programs read it.
    var json: JSON {
        [
            "repo": .text(repository), "root": .text(root), "base": .text(base), "commit": .text(commit),
            "size": .number(size), "ready": .number(ready), "stale": .number(stale),
        ]
    }
}

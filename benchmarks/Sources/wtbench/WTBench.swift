import ArgumentParser
import CBaseline
import Foundation
import Glibc

@main
struct WTBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wtbench", abstract: "Measure wtengine beside git, libgit2 and the floor.",
        subcommands: [Measuring.self, Reporting.self, Comparing.self, Generating.self, Repeating.self, Libgit2.self],
        defaultSubcommand: Measuring.self)
}

struct Measuring: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Measure, and print the results as Markdown.",
        discussion: """
            Works in a new directory below --dir, which goes at the end, on clones of the repositories.

              wtbench run --dir /dev/shm --generate 5000 --repo ~/src/app --json app.json
            """)

    @Option(help: ArgumentHelp("Where to measure: its filesystem is what counts.", valueName: "dir"))
    var dir = FileManager.default.temporaryDirectory.path

    @Option(help: ArgumentHelp("A repository to measure; its HEAD. May be repeated.", valueName: "path"))
    var repo: [String] = []

    @Option(help: ArgumentHelp("Make a repository of so many files. May be repeated.", valueName: "files"))
    var generate: [Int] = []

    @Option(help: ArgumentHelp("Write all samples to this file.", valueName: "file"))
    var json: String?

    @Flag(help: "Measure thoroughly; it takes ten times as long.")
    var full = false

    @Option(help: ArgumentHelp("How many spawns are a burst.", valueName: "n"))
    var burst: Int?

    @Option(
        help: ArgumentHelp(
            "Files that one contender writes in the rounds of a measurement: more are more rounds.", valueName: "files")
    )
    var fileBudget: Int?

    @Option(help: ArgumentHelp("No burst that writes more files than this.", valueName: "files"))
    var fileLimit: Int?

    @Option(help: ArgumentHelp("The wtengine to measure. (default: the one beside wtbench)", valueName: "path"))
    var wtengine: String?

    func run() async throws {
        var effort = full ? Effort.full : .short
        if let burst { effort.burst = burst }
        if let fileBudget { effort.fileBudget = fileBudget }
        if let fileLimit { effort.fileLimit = fileLimit }
        guard effort.burst > 0, effort.fileBudget > 0 else {
            throw ValidationError("--burst and --file-budget take numbers above 0.")
        }
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let beside = URL(fileURLWithPath: own).deletingLastPathComponent().path
        let bench = Bench(
            directory: dir, repositories: repo, generated: generate.isEmpty && repo.isEmpty ? [100, 5000] : generate,
            effort: effort,
            tools: .init(
                wtengine: wtengine ?? "\(beside)/wtengine", wtbench: own, peakmemory: "\(beside)/peakmemory"))
        let results = try await bench.run { if let json { try Files.store($0, json) } }
        print(Markdown.page([("Run", results)], plots: false))
    }
}

struct Reporting: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Write a page and plots of results.",
        discussion: "The plots go beside the page, into results/, named after the files of results.")

    @Argument(help: "Files that `wtbench run --json` wrote.")
    var files: [String]

    @Option(help: ArgumentHelp("The directory for RESULTS.md.", valueName: "dir"))
    var to: String

    func run() throws {
        let all = try files.map { path in
            let name = URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
            return (name: name, results: try Files.load(Results.self, path))
        }
        try FileManager.default.createDirectory(atPath: "\(to)/results", withIntermediateDirectories: true)
        for (name, results) in all {
            try Files.write(Plot.latency(results, on: name), "\(to)/results/\(name)-latency.svg")
            try Files.write(Plot.throughput(results, on: name), "\(to)/results/\(name)-throughput.svg")
        }
        try Files.write(Markdown.page(all, plots: true), "\(to)/RESULTS.md")
    }
}

struct Comparing: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare", abstract: "Compare results with the baseline.")

    @Argument(help: "A file that `wtbench run --json` wrote.")
    var file: String

    @Option(help: ArgumentHelp("The baseline.", valueName: "file"))
    var baseline: String

    @Flag(help: "End with status 1 when a figure is worse than the tolerance allows.")
    var check = false

    @Flag(help: "Write the baseline anew instead.")
    var update = false

    func run() throws {
        let results = try Files.load(Results.self, file)
        if update { return try Files.store(Baseline(results, tolerance: 0.3), baseline) }
        let known = try Files.load(Baseline.self, baseline)
        let (lines, worse, compared) = known.compare(results)
        print("Compared with the baseline (\(known.takenOn)):")
        lines.forEach { print($0) }
        print("\(compared) figures, \(worse) worse by more than \(Int(known.tolerance * 100)) %.")
        if compared == 0 {
            throw Failure("no figure of \(file) is in \(baseline). Write it anew with `wtbench compare --update`.")
        }
        if check, worse > 0 { throw ExitCode(1) }
    }
}

struct Generating: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Make the repository that --generate measures, to keep.")

    @Argument(help: "How many files.")
    var files: Int

    @Argument(help: "Where; must not exist.")
    var path: String

    func run() async throws { try await Generator.make(files: files, at: path) }
}

/// libgit2's own call in a process of its own. Prints nanoseconds.
struct Libgit2: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "libgit2", shouldDisplay: false)

    @Argument var words: [String]

    func run() throws {
        var nanoseconds: UInt64 = 0
        let message: UnsafePointer<CChar>?
        switch (words.first, words.count) {
        case ("add", 4): message = bench_libgit2_add(words[1], words[2], words[3], &nanoseconds)
        case ("prune", 3): message = bench_libgit2_prune(words[1], words[2], &nanoseconds)
        default: throw ValidationError("add REPOSITORY NAME PATH, or prune REPOSITORY NAME.")
        }
        if let message { throw Failure("libgit2, \(words.joined(separator: " ")): \(String(cString: message))") }
        print(nanoseconds)
    }
}

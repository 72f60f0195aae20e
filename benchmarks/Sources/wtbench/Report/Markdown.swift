import Foundation
import Histogram

/// Results as a page for people.
struct Markdown {
    private var text = ""

    /// One section for each file of results.
    static func page(_ all: [(name: String, results: Results)], plots: Bool) -> String {
        var page = Markdown()
        page.line("# Results\n")
        page.line(
            """
            Written by `scripts/bench`; [README.md](README.md) says what is measured, and how. Times are milliseconds. A \
            ratio is the median of the ratios of the same round, with its spread: 10th to 90th percentile, or smallest \
            to largest when there are fewer than ten rounds. Budgets are those of [docs/design.md](../docs/design.md).

            """)
        if all.count > 1 { page.overview(all) }
        for (name, results) in all { page.section(name, results, plots: plots) }
        return page.text
    }

    private mutating func line(_ line: String) { text += "\(line)\n" }

    private mutating func table(_ columns: [String], _ rows: [[String]]) {
        line("| \(columns.joined(separator: " | ")) |")
        line("|\(String(repeating: "---|", count: columns.count))")
        for row in rows { line("| \(row.joined(separator: " | ")) |") }
        line("")
    }

    /// Every promised figure, on every filesystem.
    private mutating func overview(_ all: [(name: String, results: Results)]) {
        line("## Budgets\n")
        var rows: [[String]] = []
        for (name, results) in all {
            for subject in results.subjects {
                for figure in subject.figures where figure.isMet == false {
                    rows.append([name, subject.name, figure.text, Self.value(figure), Self.budget(figure)])
                }
            }
        }
        let total = all.flatMap(\.results.subjects).flatMap(\.figures).count { $0.budget != nil }
        line("\(total - rows.count) of \(total) are met. Missed:\n")
        if rows.isEmpty { line("None.\n") } else { table(["on", "repository", "figure", "value", "budget"], rows) }
    }

    private mutating func section(_ name: String, _ results: Results, plots: Bool) {
        let machine = results.machine
        line("## \(name)\n")
        table(
            ["", ""],
            [
                ["taken", machine.date],
                ["machine", "\(machine.cpu), \(machine.cores) cores, \(machine.memoryBytes >> 30) GiB"],
                ["kernel", machine.kernel],
                ["filesystem", "\(machine.filesystem) (\(machine.mount))"],
                ["versions", "\(machine.wtengine); \(machine.git); libgit2 \(machine.libgit2); \(machine.swift)"],
                ["load average", "\(machine.loadBefore) before, \(machine.loadAfter) after"],
            ])
        if plots {
            line("![Time of a spawn by number of files](results/\(name)-latency.svg)\n")
            line("![Creates and removes a second by number in flight](results/\(name)-throughput.svg)\n")
        }
        for subject in results.subjects { self.subject(subject) }
    }

    private mutating func subject(_ subject: SubjectResult) {
        let size = String(format: "%.1f MB", Double(subject.bytes) / 1e6)
        line("### \(subject.name): \(subject.files) files in \(subject.directories) directories, \(size)\n")
        table(
            ["figure", "value", "spread", "budget", ""],
            subject.figures.map { figure in
                [
                    figure.text, Self.value(figure), Self.spread(figure), Self.budget(figure),
                    figure.isMet.map { $0 ? "met" : "**missed**" } ?? "",
                ]
            })
        for note in subject.notes { line("- \(note)") }
        if !subject.notes.isEmpty { line("") }
        line("<details><summary>All measurements</summary>\n")
        table(
            ["measure", "who", "p50", "p90", "p99", "max", "samples"],
            subject.series.map { series in
                let histogram = Statistics.histogram(series.samples)
                let values = [50, 90, 99, 100].map { Self.amount(histogram.valueAtPercentile($0), series.unit) }
                return [series.measure, series.contender] + values + ["\(series.samples.count)"]
            })
        line("</details>\n")
    }

    static func value(_ figure: Figure) -> String { number(figure.value, figure.form) }

    static func spread(_ figure: Figure) -> String {
        figure.spread.map { "\(number($0.lowerBound, figure.form)) .. \(number($0.upperBound, figure.form))" } ?? ""
    }

    static func budget(_ figure: Figure) -> String {
        switch figure.budget {
        case .atMost(let limit): "<= \(number(limit, figure.form))"
        case .atLeast(let limit): ">= \(number(limit, figure.form))"
        case nil: ""
        }
    }

    private static func number(_ value: Double, _ form: Figure.Form) -> String {
        switch form {
        case .ratio: String(format: "%.2f", value)
        case .speed: String(format: "%.1fx", value)
        case .milliseconds: String(format: "%.2f ms", value)
        }
    }

    private static func amount(_ value: UInt64, _ unit: Series.Unit) -> String {
        switch unit {
        case .nanoseconds: String(format: "%.2f", Double(value) / 1e6)
        case .kibibytes: String(format: "%.1f MiB", Double(value) / 1024)
        }
    }
}

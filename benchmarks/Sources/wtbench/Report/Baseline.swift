import Foundation

/// What the figures were when the last person looked at them. Ratios only: they mean the same on another machine, as
/// far as anything does.
struct Baseline: Codable {
    /// How much worse a figure may be before it counts, as a part of the value.
    var tolerance: Double
    /// Where it was taken.
    var takenOn: String
    /// By repository, then by figure.
    var figures: [String: [String: Double]]

    init(_ results: Results, tolerance: Double) {
        self.tolerance = tolerance
        let machine = results.machine
        takenOn = "\(machine.filesystem), \(machine.cores) cores, \(machine.git), \(machine.wtengine)"
        figures = [:]
        for subject in results.subjects {
            for figure in subject.figures where figure.form != .milliseconds {
                figures[subject.name, default: [:]][figure.id] = (figure.value * 1000).rounded() / 1000
            }
        }
    }

    /// One line for each ratio, also for those that the baseline does not know yet.
    func compare(_ results: Results) -> (lines: [String], worse: Int, compared: Int) {
        var lines: [String] = []
        var (worse, compared) = (0, 0)
        for subject in results.subjects {
            for figure in subject.figures {
                guard figure.form != .milliseconds, figure.value > 0 else { continue }
                let name = "\(subject.name.padded(15)) \(figure.id.padded(28))"
                guard let before = figures[subject.name]?[figure.id], before > 0 else {
                    lines.append("\(name) \(String(format: "%7.2f", figure.value))  not in the baseline")
                    continue
                }
                compared += 1
                // Above 0 is worse, whichever way round the figure is.
                let change = figure.form == .speed ? before / figure.value - 1 : figure.value / before - 1
                let percent = Int((abs(change) * 100).rounded())
                let verdict: String
                if change > tolerance {
                    worse += 1
                    verdict = "WORSE by \(percent) %"
                } else if change < -tolerance {
                    verdict = "ok, better by \(percent) %"
                } else {
                    verdict = "ok"
                }
                let values = String(format: "%7.2f, was %7.2f", figure.value, before)
                lines.append("\(name) \(values)  \(verdict)")
            }
        }
        return (lines, worse, compared)
    }
}

extension String {
    func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}

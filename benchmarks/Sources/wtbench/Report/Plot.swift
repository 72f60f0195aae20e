import Foundation

/// Plots as SVG, for a page that is read in light and in dark.
enum Plot {
    /// A line: who, and what was measured at which place.
    struct Line {
        let name: String
        /// One of the eight colours of the style sheet.
        let color: Int
        let points: [(x: Double, y: Double)]
    }

    /// An axis: where its ends are, and what stands beside it.
    struct Axis {
        let title: String
        let range: ClosedRange<Double>
        let ticks: [(value: Double, label: String)]

        /// Logarithmic, between whole powers of ten.
        init(decades title: String, of values: [Double], label: (Double) -> String) {
            let low = Int(log10(max(values.min() ?? 1, 1e-9)).rounded(.down))
            let high = max(low + 1, Int(log10(max(values.max() ?? 1, 1e-9)).rounded(.up)))
            self.title = title
            range = Double(low)...Double(high)
            ticks = (low...high).map { (Double($0), label(pow(10, Double($0)))) }
        }

        /// Logarithmic, with a tick at each value.
        init(values: [Double], title: String, label: (Double) -> String) {
            self.title = title
            let logs = values.map { log10($0) }
            let (low, high) = (logs.min() ?? 0, logs.max() ?? 1)
            let margin = max(0.05, (high - low) * 0.04)
            range = (low - margin)...(high + margin)
            ticks = values.map { (log10($0), label($0)) }
        }

        /// 0...1 within the range.
        func place(_ value: Double) -> Double {
            (log10(value) - range.lowerBound) / (range.upperBound - range.lowerBound)
        }
    }

    /// Time of a spawn by number of files.
    static func latency(_ results: Results, on name: String) -> String {
        let contenders = [
            Contender.pool, Contender.snapshot, Contender.floor, Contender.checkout, Contender.reading,
            Contender.gitOne,
            Contender.gitMany,
            Contender.libgit2,
        ]
        let subjects = results.subjects.sorted { $0.files < $1.files }
        let lines = contenders.enumerated().compactMap { color, contender -> Line? in
            let points = subjects.compactMap { subject in
                subject.samples(Measure.spawn, contender).map {
                    (x: Double(subject.files), y: Statistics.median($0) / 1e6)
                }
            }
            return points.isEmpty ? nil : Line(name: contender, color: color, points: points)
        }
        let files = Axis(decades: "files", of: subjects.map { Double($0.files) }) { String(Int($0)) }
        let time = Axis(decades: "ms", of: lines.flatMap { $0.points.map(\.y) }) { plain($0) }
        return draw("Time of a spawn, median, on \(name)", panels: [("", lines)], x: files, y: time)
    }

    /// Creates and removes a second by number in flight, a panel for each repository.
    static func throughput(_ results: Results, on name: String) -> String {
        let inFlight = [1, 2, 4, 8, 16]
        let panels = results.subjects.sorted { $0.files < $1.files }.compactMap { subject -> (String, [Line])? in
            let lines = [(Contender.checkout, 3), (Contender.git, 4)].compactMap { contender, color -> Line? in
                let points = inFlight.compactMap { count in
                    subject.samples(Measure.sustained(count), contender).map {
                        (x: Double(count), y: 1e9 / Statistics.median($0))
                    }
                }
                return points.isEmpty ? nil : Line(name: contender, color: color, points: points)
            }
            return lines.isEmpty ? nil : ("\(subject.name), \(subject.files) files", lines)
        }
        let counts = Axis(values: inFlight.map(Double.init), title: "in flight") { String(Int($0)) }
        let rate = Axis(decades: "a second", of: panels.flatMap { $0.1.flatMap { $0.points.map(\.y) } }) { plain($0) }
        return draw("Creates and removes a second on \(name)", panels: panels, x: counts, y: rate)
    }

    private static func plain(_ value: Double) -> String {
        value >= 1 ? String(Int(value)) : String(format: "%g", value)
    }

    /// Panels of one size, three in a row, with one legend.
    private static func draw(_ title: String, panels: [(String, [Line])], x: Axis, y: Axis) -> String {
        let single = panels.count <= 1
        let (width, height) = single ? (620.0, 380.0) : (300.0, 240.0)
        let columns = single ? 1 : min(3, panels.count)
        let rows = max(1, (panels.count + columns - 1) / columns)
        let names = panels.flatMap(\.1).reduce(into: [Line]()) { known, line in
            if !known.contains(where: { $0.name == line.name }) { known.append(line) }
        }
        let legendWidth = 180.0
        let total = (Double(columns) * width + legendWidth, 44 + Double(rows) * height)
        var svg = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(total.0)) \(Int(total.1))" role="img">
            <title>\(escaped(title))</title>
            <style>\(style)</style>
            <rect class="page" width="100%" height="100%"/>
            <text class="title" x="16" y="26">\(escaped(title))</text>

            """
        for (index, panel) in panels.enumerated() {
            let origin = (Double(index % columns) * width, 40 + Double(index / columns) * height)
            svg += "<g transform=\"translate(\(text(origin.0)),\(text(origin.1)))\">\n"
            svg += self.panel(panel.0, panel.1, x: x, y: y, width: width, height: height)
            svg += "</g>\n"
        }
        if panels.isEmpty { svg += "<text x=\"16\" y=\"60\">not measured</text>\n" }
        // From the slowest to the fastest, as the lines lie where they end.
        let ordered = names.sorted { ($0.points.last?.y ?? 0) > ($1.points.last?.y ?? 0) }
        for (index, line) in ordered.enumerated() {
            let (left, top) = (text(total.0 - legendWidth + 8), 60 + index * 20)
            svg += "<circle class=\"c\(line.color) dot\" cx=\"\(left)\" cy=\"\(top - 4)\" r=\"5\"/>"
            svg += "<text x=\"\(text(total.0 - legendWidth + 20))\" y=\"\(top)\">\(escaped(line.name))</text>\n"
        }
        return svg + "</svg>\n"
    }

    private static func panel(
        _ title: String, _ lines: [Line], x: Axis, y: Axis, width: Double, height: Double
    ) -> String {
        let (left, right, top, bottom) = (56.0, 12.0, 24.0, 40.0)
        func across(_ part: Double) -> String { text(left + part * (width - left - right)) }
        func down(_ part: Double) -> String { text(height - bottom - part * (height - top - bottom)) }
        func part(_ axis: Axis, _ log: Double) -> Double {
            (log - axis.range.lowerBound) / (axis.range.upperBound - axis.range.lowerBound)
        }
        var svg = "<text x=\"\(across(0))\" y=\"14\">\(escaped(title))</text>\n"
        for tick in y.ticks {
            let place = down(part(y, tick.value))
            svg += "<line class=\"grid\" x1=\"\(across(0))\" x2=\"\(across(1))\" y1=\"\(place)\" y2=\"\(place)\"/>"
            svg += "<text class=\"tick\" text-anchor=\"end\" dy=\"4\" x=\"\(text(left - 6))\" y=\"\(place)\">"
            svg += "\(tick.label)</text>\n"
        }
        for tick in x.ticks {
            let place = across(part(x, tick.value))
            svg += "<text class=\"tick\" text-anchor=\"middle\" x=\"\(place)\" y=\"\(text(height - bottom + 16))\">"
            svg += "\(tick.label)</text>\n"
        }
        svg +=
            "<text class=\"tick\" text-anchor=\"end\" x=\"\(across(1))\" y=\"\(text(height - 8))\">\(x.title)</text>\n"
        // Where panels have names, the plot's says what is counted.
        if title.isEmpty { svg += "<text class=\"tick\" x=\"4\" y=\"14\">\(y.title)</text>\n" }
        for line in lines {
            let points = line.points.map { "\(across(x.place($0.x))),\(down(y.place($0.y)))" }
            svg += "<polyline class=\"c\(line.color)\" points=\"\(points.joined(separator: " "))\"/>\n"
            for (place, point) in zip(points, line.points) {
                let ends = place.split(separator: ",")
                svg += "<circle class=\"c\(line.color) dot\" cx=\"\(ends[0])\" cy=\"\(ends[1])\" r=\"3.5\">"
                svg += "<title>\(escaped(line.name)): \(String(format: "%.3g", point.y)) \(y.title)</title></circle>\n"
            }
        }
        return svg
    }

    private static func text(_ value: Double) -> String { String(format: "%.1f", value) }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }

    /// Colours that differ in lightness as well, for readers who do not tell all of them apart.
    private static let style = """
        text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}.tick{fill:#59636e}
        .page{fill:#fff}.grid{stroke:#d1d9e0;stroke-width:1}polyline{fill:none;stroke-width:2}.dot{stroke:none}
        .c0{stroke:#1a7f37;fill:#1a7f37}.c1{stroke:#0a9396;fill:#0a9396}.c2{stroke:#848d97;fill:#848d97}
        .c3{stroke:#0550ae;fill:#0550ae}.c4{stroke:#d1570a;fill:#d1570a}.c5{stroke:#b8860b;fill:#b8860b}
        .c6{stroke:#a40e26;fill:#a40e26}polyline[class]{fill:none}.dot[class]{stroke:none}
        @media(prefers-color-scheme:dark){text{fill:#e6edf3}.tick{fill:#9198a1}.page{fill:#0d1117}.grid{stroke:#30363d}
        .c0{stroke:#3fb950;fill:#3fb950}.c1{stroke:#39c5cf;fill:#39c5cf}.c2{stroke:#8b949e;fill:#8b949e}
        .c3{stroke:#79b8ff;fill:#79b8ff}.c4{stroke:#ffa657;fill:#ffa657}.c5{stroke:#e3c04b;fill:#e3c04b}
        .c6{stroke:#ff7b72;fill:#ff7b72}}
        """
}

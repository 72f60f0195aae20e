/// Rows in aligned columns, for people. Programs take `--json`.
struct Table {
    let header: [String]
    let rows: [[String]]

    /// The rows below the header, without a line end at the end.
    var text: String {
        let lines = [header] + rows.map { $0.map(Self.visible) }
        let widths = header.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        return lines.map { line in
            // The last column stays as it is: nothing follows that would have to be aligned.
            let cells = line.indices.map { column in
                column == line.count - 1
                    ? line[column] : line[column] + String(repeating: " ", count: widths[column] - line[column].count)
            }
            return cells.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    /// A file name may hold a line end or an escape sequence, which must not reach the terminal as such.
    static func visible(_ text: String) -> String {
        text.unicodeScalars.contains { $0.properties.generalCategory == .control } ? text.debugDescription : text
    }
}

import Foundation

/// Reads and writes the report's files.
enum Files {
    static func load<T: Decodable>(_ type: T.Type, _ path: String) throws -> T {
        do { return try JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: path))) } catch {
            throw Failure("\(path) cannot be read as \(type): \(error). Take it again with scripts/bench.")
        }
    }

    static func store(_ value: some Encodable, _ path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        var text = String(decoding: try encoder.encode(value), as: UTF8.self)
        // One line for a list of numbers: a thousand lines of them say nothing in a diff.
        text = text.replacing(#/\[\s+(\d[\d,\s]*)\]/#) { match in
            "[" + match.output.1.split(whereSeparator: \.isWhitespace).joined(separator: " ") + "]"
        }
        try write("\(text)\n", path)
    }

    static func write(_ text: String, _ path: String) throws {
        do { try Data(text.utf8).write(to: URL(fileURLWithPath: path)) } catch {
            throw Failure("\(path) cannot be written: \(error.localizedDescription)")
        }
    }
}

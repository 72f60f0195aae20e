import WorktreeEngine

import struct Foundation.Data
import class Foundation.JSONDecoder

extension WorkResult {
    /// Reads the text form. Lines may end in CRLF; names of headers may have any case.
    init(text file: String, path: String, expecting run: RunKey) throws(WorkResultError) {
        var fields: [Field: String] = [:]
        // By bytes: a Character may hold a CRLF, and a header value ends with LF and CRLF only.
        var rest = file.utf8[...]
        var number = 0
        while !rest.isEmpty {
            let end = rest.firstIndex(of: UInt8(ascii: "\n"))
            var line = rest[..<(end ?? rest.endIndex)]
            rest = end.map { rest[rest.index(after: $0)...] } ?? rest[rest.endIndex...]
            number += 1
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            let text = String(Substring(line))
            if text.allSatisfy({ $0 == " " || $0 == "\t" }) { break }
            let (field, value) = try Self.header(text, "\(path):\(number)")
            guard fields.updateValue(value, forKey: field) == nil else {
                throw WorkResultError(.malformed, "\(path):\(number): \(field.header) stands there twice.")
            }
        }
        try self.init(fields, text: String(Substring(rest)), path: path, expecting: run, name: \.header)
    }

    private static func header(_ line: String, _ place: String) throws(WorkResultError) -> (Field, String) {
        let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else {
            throw WorkResultError(
                .malformed,
                "\(place): \(String(line.prefix(100)).debugDescription) is no header line. Expected "
                    + "\"Name: value\", and a blank line before free text.")
        }
        let name = parts[0].lowercased()
        guard let field = Field.allCases.first(where: { $0.header.lowercased() == name }) else {
            let known = Field.allCases.map(\.header).joined(separator: ", ")
            throw WorkResultError(
                .malformed,
                "\(place): there is no header \(String(parts[0].prefix(100)).debugDescription). Known: \(known).")
        }
        var value = parts[1].drop { $0 == " " || $0 == "\t" }
        while value.last == " " || value.last == "\t" { value.removeLast() }
        return (field, String(value))
    }

    /// Reads the JSON form.
    init(json file: String, path: String, expecting run: RunKey) throws(WorkResultError) {
        var fields: [Field: String] = [:]
        var text = ""
        for (key, value) in try Self.texts(file, path) {
            // Null says that there is none, as leaving the key out does.
            let value = value ?? ""
            guard !value.utf8.contains(0) else {
                throw WorkResultError(
                    .malformed, "\(path): \(key.debugDescription) holds a NUL character. Take it out.")
            }
            if let field = Field(rawValue: key) {
                fields[field] = value
            } else if key == "text" {
                text = value
            } else {
                let known = (Field.allCases.map(\.rawValue) + ["text"]).joined(separator: ", ")
                throw WorkResultError(
                    .malformed, "\(path): there is no key \(String(key.prefix(100)).debugDescription). Known: \(known)."
                )
            }
        }
        try self.init(fields, text: text, path: path, expecting: run, name: \.rawValue)
    }

    /// The one object of a JSON file, whose values are texts or null.
    private static func texts(_ file: String, _ path: String) throws(WorkResultError) -> [String: String?] {
        let object: [String: String?]
        do { object = try JSONDecoder().decode([String: String?].self, from: Data(file.utf8)) } catch {
            if case DecodingError.typeMismatch(_, let context) = error, let key = context.codingPath.last {
                throw WorkResultError(
                    .malformed,
                    "\(path): \(key.stringValue.debugDescription) is no text. Expected one in quotes, or null.")
            }
            throw WorkResultError(
                .malformed, "\(path) is not one JSON object of texts: \(error). See docs/workflow.md.")
        }
        if let key = repeatedKey(file) {
            throw WorkResultError(.malformed, "\(path): \(key.debugDescription) stands there twice.")
        }
        return object
    }

    /// A key that the object has twice: of two equal keys one reader of JSON takes the first and another the last.
    /// - Parameter json: an object, as ``texts(_:_:)`` has found.
    private static func repeatedKey(_ json: String) -> String? {
        let bytes = Array(json.utf8)
        var seen: Set<String> = []
        var position = 0
        while let start = bytes[position...].firstIndex(of: UInt8(ascii: "\"")) {
            var end = start + 1
            while bytes[end] != UInt8(ascii: "\"") { end += bytes[end] == UInt8(ascii: "\\") ? 2 : 1 }
            position = end + 1
            // Values are texts, so that every string before a colon is a key of the one object.
            guard bytes[position...].first(where: { !" \t\r\n".utf8.contains($0) }) == UInt8(ascii: ":") else {
                continue
            }
            guard let key = try? JSONDecoder().decode(String.self, from: Data(bytes[start...end])) else { continue }
            if !seen.insert(key).inserted { return key }
        }
        return nil
    }
}

/// A position in a text. Both count from 1; a column is a Unicode scalar, as in toml++'s own messages.
package struct Place: Comparable, Hashable, Sendable {
    /// The line.
    package let line: Int
    /// The column.
    package let column: Int

    /// The beginning of a text.
    package static let start = Place(line: 1, column: 1)

    package static func < (one: Place, other: Place) -> Bool {
        (one.line, one.column) < (other.line, other.column)
    }
}

/// Where each key and each element of an array stands in a TOML text.
///
/// TOMLKit says where a syntax error is but not where a value is, so this reads the text as well. It does so first, and
/// checks nothing but what TOMLKit lets through or does not survive; of a text that is no TOML it makes something, which
/// TOMLKit then refuses.
/// See: https://toml.io/en/v1.0.0
struct TOMLPlaces {
    /// By full key, such as `groups."a b".listen_labels[1]`; see ``child(_:_:)`` and ``element(_:_:)``.
    private(set) var places: [String: Place] = [:]
    private let text: [Unicode.Scalar]
    private var next = 0
    private var line = 1
    private var lineStart = 0
    /// How many elements each array of tables, `[[key]]`, has so far.
    private var elements: [String: Int] = [:]

    /// What this refuses, and where.
    struct Refusal: Error {
        let place: Place
        let reason: String
    }

    /// Tables and arrays within each other. What reads and frees them is recursive; toml++ limits values in values but
    /// not the parts of a dotted key, of which half a million overflow the stack.
    private static let depthLimit = 32

    /// Reads the whole text.
    init(_ text: String) throws(Refusal) {
        self.text = Array(text.unicodeScalars)
        if self.text.first == "\u{FEFF}" {
            next = 1
            lineStart = 1
        }
        var table = (path: "", depth: 0)
        while true {
            skipBlank()
            switch peek {
            case nil: return
            case "[": table = try header()
            default: try pair(in: table.path, table.depth)
            }
        }
    }

    // MARK: Names

    /// The full key of an entry of a table.
    static func child(_ parent: String, _ name: String) -> String {
        let isBare =
            !name.isEmpty
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
        let shown = isBare ? name : name.debugDescription
        return parent.isEmpty ? shown : "\(parent).\(shown)"
    }

    /// The full key of an element of an array.
    static func element(_ parent: String, _ index: Int) -> String { "\(parent)[\(index)]" }

    // MARK: Statements

    /// `[table]` or `[[array of tables]]`.
    private mutating func header() throws(Refusal) -> (path: String, depth: Int) {
        advance()
        let isArray = take("[")
        let parts = try key(0)
        var path = ""
        for (number, part) in parts.enumerated() {
            path = Self.child(path, part.name)
            note(path, part.place)
            if isArray, number == parts.count - 1 {
                let index = elements[path, default: 0]
                elements[path] = index + 1
                path = Self.element(path, index)
                note(path, part.place)
            } else if let count = elements[path] {
                // A table below an array of tables belongs to its last element.
                path = Self.element(path, count - 1)
            }
        }
        _ = take("]")
        if isArray { _ = take("]") }
        return (path, parts.count + 1)
    }

    /// `key = value`, also in an inline table.
    private mutating func pair(in table: String, _ depth: Int) throws(Refusal) {
        let parts = try key(depth)
        var path = table
        for part in parts {
            path = Self.child(path, part.name)
            note(path, part.place)
        }
        _ = take("=")
        skipSpaces()
        try value(path, depth + parts.count)
    }

    /// The parts of a dotted key.
    private mutating func key(_ depth: Int) throws(Refusal) -> [(name: String, place: Place)] {
        var parts: [(name: String, place: Place)] = []
        repeat {
            skipSpaces()
            let place = self.place
            try checkDepth(depth + parts.count)
            parts.append((try name(), place))
            skipSpaces()
        } while take(".")
        return parts
    }

    private mutating func name() throws(Refusal) -> String {
        if peek == "\"" || peek == "'" { return try string() }
        var result = String.UnicodeScalarView()
        while let character = peek, !" \t\r\n.=]".unicodeScalars.contains(character) { result.append(advance()) }
        return String(result)
    }

    private mutating func value(_ path: String, _ depth: Int) throws(Refusal) {
        try checkDepth(depth)
        switch peek {
        case "\"", "'": _ = try string()
        case "[":
            advance()
            var index = 0
            while let character = peekAfterBlank(), !take("]") {
                if character == "," {
                    advance()
                } else {
                    let path = Self.element(path, index)
                    note(path, place)
                    try value(path, depth + 1)
                    index += 1
                }
            }
        case "{":
            advance()
            while let character = peekAfterBlank(), !take("}") {
                if character == "," { advance() } else { try pair(in: path, depth + 1) }
            }
        case nil: return
        default:
            // A number, a date or a word. At least one character, so that no text can make this stand still.
            repeat { advance() } while peek.map { !",]}#\r\n".unicodeScalars.contains($0) } ?? false
        }
    }

    /// A string of any of the four kinds. The result is exact for those of one line, which alone may be keys.
    private mutating func string() throws(Refusal) -> String {
        let quote = advance()
        var result = String.UnicodeScalarView()
        var isMultiline = false
        if take(quote) {
            guard take(quote) else { return "" }
            isMultiline = true
        }
        while let character = peek {
            if character == quote {
                guard isMultiline else {
                    advance()
                    return String(result)
                }
                // One or two quotes may stand directly before the three that close.
                var count = 0
                while count < 5, take(quote) { count += 1 }
                if count >= 3 { return String(result) }
            } else if character == "\\", quote == "\"" {
                result.append(try escape())
            } else {
                result.append(advance())
            }
        }
        return String(result)
    }

    private mutating func escape() throws(Refusal) -> Unicode.Scalar {
        let place = self.place
        advance()
        guard let letter = peek else { return "\\" }
        advance()
        let scalar: Unicode.Scalar
        switch letter {
        case "b": scalar = "\u{8}"
        case "t": scalar = "\t"
        case "n": scalar = "\n"
        case "f": scalar = "\u{C}"
        case "r": scalar = "\r"
        case "e": scalar = "\u{1B}"
        case "x": scalar = hexadecimal(2)
        case "u": scalar = hexadecimal(4)
        case "U": scalar = hexadecimal(8)
        default: scalar = letter
        }
        // TOMLKit hands values out as C strings, which it would cut short unseen.
        if scalar.value == 0 { throw Refusal(place: place, reason: "a NUL character is not accepted. Take it out.") }
        return scalar
    }

    private mutating func hexadecimal(_ count: Int) -> Unicode.Scalar {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let digit = peek.flatMap({ Character($0).hexDigitValue }) else { return "\u{FFFD}" }
            value = value &* 16 &+ UInt32(digit)
            advance()
        }
        return Unicode.Scalar(value) ?? "\u{FFFD}"
    }

    // MARK: Characters

    private var peek: Unicode.Scalar? { next < text.count ? text[next] : nil }

    private var place: Place { Place(line: line, column: next - lineStart + 1) }

    /// Takes the next character, of which there must be one.
    @discardableResult
    private mutating func advance() -> Unicode.Scalar {
        let character = text[next]
        next += 1
        if character == "\n" {
            line += 1
            lineStart = next
        }
        return character
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard peek == character else { return false }
        advance()
        return true
    }

    private mutating func skipSpaces() {
        while peek == " " || peek == "\t" { advance() }
    }

    /// Spaces, ends of lines and comments.
    private mutating func skipBlank() {
        while let character = peek {
            switch character {
            case " ", "\t", "\r", "\n": advance()
            case "#": while let character = peek, character != "\n" { advance() }
            default: return
            }
        }
    }

    private mutating func peekAfterBlank() -> Unicode.Scalar? {
        skipBlank()
        return peek
    }

    /// The first place of a key counts: a table may be opened implicitly and named again.
    private mutating func note(_ path: String, _ place: Place) {
        if places[path] == nil { places[path] = place }
    }

    private func checkDepth(_ depth: Int) throws(Refusal) {
        guard depth < Self.depthLimit else {
            throw Refusal(
                place: place, reason: "tables and arrays stand more than \(Self.depthLimit) deep in each other.")
        }
    }
}

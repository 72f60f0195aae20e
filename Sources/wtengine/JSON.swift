import Foundation

/// A JSON document to print, rendered as it is built. Keys keep their order and absent values are written as null,
/// neither of which `JSONEncoder` does.
struct JSON: ExpressibleByDictionaryLiteral, CustomStringConvertible {
    /// The document on one line.
    let description: String

    private init(rendered: String) { description = rendered }

    init(dictionaryLiteral elements: (String, JSON)...) {
        description = "{\(elements.map { "\(Self.quoted($0.0)):\($0.1)" }.joined(separator: ","))}"
    }

    static let null = JSON(rendered: "null")
    static func bool(_ value: Bool) -> JSON { JSON(rendered: "\(value)") }
    static func number(_ value: (some BinaryInteger)?) -> JSON { value.map { JSON(rendered: "\($0)") } ?? .null }
    static func text(_ value: String?) -> JSON { value.map { JSON(rendered: quoted($0)) } ?? .null }
    static func date(_ value: Date?) -> JSON { .text(value.map { Timestamp.text($0) }) }

    static func array(_ values: [JSON]) -> JSON {
        JSON(rendered: "[\(values.map(\.description).joined(separator: ","))]")
    }

    /// One object with the keys of two, neither of them empty.
    func adding(_ other: JSON) -> JSON {
        JSON(rendered: "\(description.dropLast()),\(other.description.dropFirst())")
    }

    /// See: https://www.rfc-editor.org/rfc/rfc8259#section-7
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

/// A JSON document to print, rendered as it is built. Keys keep their order and absent values are written as null,
/// neither of which `JSONEncoder` does.
package struct JSON: ExpressibleByDictionaryLiteral, CustomStringConvertible {
    /// The document on one line.
    package let description: String

    private init(rendered: String) { description = rendered }

    package init(dictionaryLiteral elements: (String, JSON)...) {
        description = "{\(elements.map { "\(Self.quoted($0.0)):\($0.1)" }.joined(separator: ","))}"
    }

    package static let null = JSON(rendered: "null")
    package static func bool(_ value: Bool) -> JSON { JSON(rendered: "\(value)") }
    package static func number(_ value: (some BinaryInteger)?) -> JSON {
        value.map { JSON(rendered: "\($0)") } ?? .null
    }
    package static func text(_ value: String?) -> JSON { value.map { JSON(rendered: quoted($0)) } ?? .null }

    package static func array(_ values: [JSON]) -> JSON {
        JSON(rendered: "[\(values.map(\.description).joined(separator: ","))]")
    }

    /// One object with the keys of two, neither of them empty.
    package func adding(_ other: JSON) -> JSON {
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

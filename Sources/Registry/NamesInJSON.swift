// The names as text, in whatever is encoded. A text that is no such name is refused as any other damaged value is.

extension IssueRef: Codable {
    /// Reads the text and checks its form.
    public init(from decoder: any Decoder) throws { self = try name(from: decoder) { try IssueRef($0) } }

    /// Writes ``description``.
    public func encode(to encoder: any Encoder) throws { try write(description, to: encoder) }
}

extension RunID: Codable {
    /// Reads the text and checks its form.
    public init(from decoder: any Decoder) throws { self = try name(from: decoder) { try RunID($0) } }

    /// Writes ``description``.
    public func encode(to encoder: any Encoder) throws { try write(description, to: encoder) }
}

extension Role: Codable {
    /// Reads the text and checks its form.
    public init(from decoder: any Decoder) throws { self = try name(from: decoder) { try Role($0) } }

    /// Writes ``description``.
    public func encode(to encoder: any Encoder) throws { try write(description, to: encoder) }
}

private func name<Name>(from decoder: any Decoder, _ parse: (String) throws -> Name) throws -> Name {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    do {
        return try parse(text)
    } catch let error as InvalidName {
        throw DecodingError.dataCorruptedError(in: container, debugDescription: error.description)
    }
}

private func write(_ text: String, to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
}

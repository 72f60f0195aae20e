/// A value of a settings file: what it is, its full key, and where it stands.
package struct Setting: Sendable {
    /// For example `groups.backend.listen_labels[1]`; empty for the whole file.
    package let key: String
    /// The last part of the key, as the file means it.
    package let name: String
    /// Where its key stands, or the element itself in an array.
    package let place: Place
    /// What it is.
    package let value: Value

    /// What a setting may be.
    package enum Value: Sendable {
        /// A string.
        case text(String)
        /// A whole number.
        case integer(Int)
        /// `true` or `false`.
        case flag(Bool)
        /// An array.
        case array([Setting])
        /// A table, in the order of the file.
        case table([Setting])
        /// A fraction, a date or a time, as a person would write it. No setting is one.
        case other(String)
    }

    /// The value in a message that rejects it.
    var shown: String {
        switch value {
        case .text(let text): String(reflecting: text.count > 200 ? "\(text.prefix(200))..." : text)
        case .integer(let number): "integer \(number)"
        case .flag(let flag): "bool \(flag)"
        case .array: "an array"
        case .table: "a table"
        case .other(let shown): shown
        }
    }
}

/// What is wrong in a settings file, found in one go.
package struct Problems: Sendable {
    /// Where, and what: the key, the reason and what is accepted.
    package typealias Problem = (place: Place, text: String)

    private var found: [Problem] = []

    package init() {}

    /// In the order of the file.
    package var all: [Problem] {
        // The number keeps problems of one place in the order in which they were found.
        found.enumerated().sorted { ($0.element.place, $0.offset) < ($1.element.place, $1.offset) }.map(\.element)
    }

    /// Adds one that belongs to a setting.
    package mutating func add(_ setting: Setting, _ text: String) { found.append((setting.place, text)) }

    /// Adds one about a key that is missing in a table.
    package mutating func add(missing name: String, in table: Setting, _ expected: String) {
        found.append((table.place, "\(TOMLPlaces.child(table.key, name)) is missing. Expected \(expected)."))
    }

    /// Adds the usual one: what stands there is not what is accepted.
    package mutating func reject(_ setting: Setting, _ expected: String) {
        add(setting, "\(setting.key): \(setting.shown) is not accepted. Expected \(expected).")
    }
}

// MARK: - Typed values

/// Each returns nil, and adds a problem, when the value is something else.
extension Setting {
    /// A table whose keys are known: the settings by name. A misspelt limit would be no limit, so a key that is not
    /// known is a problem.
    package func table(_ known: [String], _ problems: inout Problems) -> [String: Setting]? {
        guard let entries = entries(&problems) else { return nil }
        var result: [String: Setting] = [:]
        for entry in entries {
            if known.contains(entry.name) {
                result[entry.name] = entry
            } else {
                let place = key.isEmpty ? "at the top" : "in [\(key)]"
                problems.add(
                    entry, "\(entry.key): no such key. Known \(place): \(known.joined(separator: ", ")).")
            }
        }
        return result
    }

    /// A table whose keys are free.
    package func entries(_ problems: inout Problems) -> [Setting]? {
        if case .table(let entries) = value { return entries }
        problems.reject(self, "a table: [\(key)]")
        return nil
    }

    /// An array of texts of one line.
    package func lines(_ problems: inout Problems, _ expected: String) -> [(text: String, setting: Setting)]? {
        guard case .array(let elements) = value else {
            problems.reject(self, expected)
            return nil
        }
        return elements.compactMap { element in
            guard case .text(let text) = element.value, isLine(text) else {
                problems.reject(element, expected)
                return nil
            }
            return (text, element)
        }
    }

    /// A text of one line that is not empty.
    package func line(
        _ problems: inout Problems, _ expected: String = "a text of one line, not empty"
    ) -> String? {
        if case .text(let text) = value, isLine(text) { return text }
        problems.reject(self, expected)
        return nil
    }

    /// A whole number.
    package func integer(_ range: ClosedRange<Int>, _ problems: inout Problems) -> Int? {
        if case .integer(let number) = value, range.contains(number) { return number }
        let upper =
            range.upperBound == .max
            ? "of \(range.lowerBound) or more" : "from \(range.lowerBound) to \(range.upperBound)"
        problems.reject(self, "a whole number \(upper)")
        return nil
    }

    /// `true` or `false`.
    package func flag(_ problems: inout Problems) -> Bool? {
        if case .flag(let flag) = value { return flag }
        problems.reject(self, "true or false")
        return nil
    }

    /// One of some words.
    package func word<Meaning>(
        _ words: [String: Meaning], _ problems: inout Problems, _ expected: String
    ) -> Meaning? {
        if case .text(let text) = value, let meaning = words[text] { return meaning }
        problems.reject(self, expected)
        return nil
    }

    /// A time longer than nothing.
    package func duration(_ problems: inout Problems) -> Duration? {
        if case .text(let text) = value, let time = Quantity.duration(text), time > .zero { return time }
        problems.reject(self, "\(Quantity.durationForms), longer than nothing")
        return nil
    }

    /// A size in bytes.
    package func bytes(_ problems: inout Problems) -> Int64? {
        switch value {
        case .integer(let number) where number >= 0: return Int64(number)
        case .text(let text): if let bytes = Quantity.bytes(text) { return bytes }
        default: break
        }
        problems.reject(self, Quantity.sizeForms)
        return nil
    }

    private func isLine(_ text: String) -> Bool { !text.isEmpty && !text.contains(where: \.isNewline) }
}

import TOMLKit

/// Why a settings file cannot be used.
package struct SettingsError: Error, Sendable, CustomStringConvertible {
    /// One line for a person, with the path.
    package let description: String
    /// Where in the file; nil when it is about the file as such.
    package let place: Place?
    /// The reason and the remedy without path and place: a clause that goes on from the path when there is no place.
    package let reason: String

    /// An error about the file as such.
    init(_ path: String, _ refusal: TextFile.Refusal) {
        (description, place, reason) = ("\(path) \(refusal)", nil, refusal.description)
    }

    /// An error at a place, which is shown as compilers do.
    init(_ path: String, _ place: Place, _ reason: String) {
        self.place = place
        self.reason = reason
        description = "\(path):\(place.line):\(place.column): \(reason)"
    }

    /// A setting that is not accepted. The key says where it is, so the place is not shown.
    init(_ path: String, _ problem: Problems.Problem) {
        (description, place, reason) = ("\(path): \(problem.text)", problem.place, problem.text)
    }
}

/// A TOML file with the place of every value. Blocks while the file is read.
package enum SettingsFile {
    /// Reads a file; nil when there is none.
    /// - Throws: ``SettingsError`` when it cannot be read, is no text, is too large, or is not TOML.
    package static func read(_ path: String) throws(SettingsError) -> Setting? {
        let content: String?
        do { content = try TextFile.read(path) } catch { throw SettingsError(path, error) }
        guard let content else { return nil }
        return try parse(content, path: path)
    }

    /// Reads a text.
    /// - Parameter path: for the error.
    static func parse(_ text: String, path: String) throws(SettingsError) -> Setting {
        do {
            let places = try TOMLPlaces(text).places
            let table = try TOMLTable(string: text)
            return Setting(key: "", name: "", place: .start, value: Self.table(table, "", places))
        } catch let error as TOMLParseError {
            let place = Place(line: error.source.begin.line, column: error.source.begin.column)
            throw SettingsError(path, place, "\(error.description). See https://toml.io for the syntax.")
        } catch let error as TOMLPlaces.Refusal {
            throw SettingsError(path, error.place, error.reason)
        } catch { throw SettingsError(path, .start, "\(error)") }
    }

    private static func table(_ table: TOMLTable, _ key: String, _ places: [String: Place]) -> Setting.Value {
        let entries = table.map { name, value in
            setting(value, TOMLPlaces.child(key, name), name, places)
        }
        // TOMLKit gives them in the order of their names.
        return .table(entries.sorted { $0.place < $1.place })
    }

    private static func setting(
        _ value: any TOMLValueConvertible, _ key: String, _ name: String, _ places: [String: Place]
    ) -> Setting {
        let meaning: Setting.Value =
            if let text = value.string {
                .text(text)
            } else if let number = value.int {
                .integer(number)
            } else if let flag = value.bool {
                .flag(flag)
            } else if let array = value.array {
                .array(
                    array.enumerated().map { index, element in
                        setting(element, TOMLPlaces.element(key, index), name, places)
                    })
            } else if let inner = value.table {
                table(inner, key, places)
            } else {
                .other("\(value.type) \(value.debugDescription)")
            }
        return Setting(key: key, name: name, place: places[key] ?? .start, value: meaning)
    }
}

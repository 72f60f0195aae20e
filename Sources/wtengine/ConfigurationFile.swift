import Glibc
import TOMLKit
import WorktreeEngine

/// `config.toml` of a state directory. A key that is not known is an error: a misspelt limit would be no limit.
struct ConfigurationFile {
    private let path: String
    private var configuration: Configuration

    /// Reads the file; the defaults when there is none.
    /// - Throws: ``Failure`` that names the file, the key, the reason and what is accepted.
    static func load(state: String) throws -> Configuration {
        let path = "\(state)/config.toml"
        guard let bytes = try contents(path) else { return Configuration(state: state) }
        // toml++ reads a C string, which a NUL would cut short unseen.
        guard let text = String(validating: bytes, as: UTF8.self), !text.utf8.contains(0) else {
            throw failure("\(path) is not a text file in UTF-8. Save it as one.")
        }
        var file = ConfigurationFile(path: path, configuration: Configuration(state: state))
        do {
            try file.read(TOMLTable(string: text))
        } catch let error as TOMLParseError {
            let place = error.source.begin
            throw failure(
                "\(path):\(place.line):\(place.column): \(error.description). See https://toml.io for the syntax.")
        }
        return file.configuration
    }

    /// The bytes of the file; nil when there is none. Foundation would say "error 256" for a directory.
    private static func contents(_ path: String) throws -> [UInt8]? {
        guard let file = fopen(path, "re") else {
            if errno == ENOENT { return nil }
            throw unreadable(path)
        }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&block, 1, block.count, file), count > 0 { bytes += block[..<count] }
        guard ferror(file) == 0 else { throw unreadable(path) }
        return bytes
    }

    // MARK: Tables

    private mutating func read(_ table: TOMLTable) throws {
        try each(table, "", ["roots", "limits", "policies", "branch", "cleanup", "checkout", "pool", "git", "audit"]) {
            file, key, value in
            switch key {
            case "roots": file.configuration.roots = try file.roots(value)
            case "limits": try file.limits(value)
            case "policies": try file.policies(value)
            case "branch": try file.branch(value)
            case "cleanup":
                try file.section(value, key, ["ignored"]) { file, key, value in
                    file.configuration.keepsIgnoredFiles =
                        try file.word(value, key, ["remove": false, "keep": true], "\"remove\" or \"keep\"")
                }
            case "checkout":
                try file.section(value, key, ["workers"]) { file, key, value in
                    file.configuration.checkoutWorkers = try file.integer(value, key, 1...256)
                }
            case "pool":
                try file.section(value, key, ["size"]) { file, key, value in
                    file.configuration.poolSize = try file.integer(value, key, 0...1000)
                }
            case "git":
                try file.section(value, key, ["timeout"]) { file, key, value in
                    guard let timeout = value.string.flatMap(Quantity.duration), timeout > .zero else {
                        throw file.rejected(value, key, "\(Quantity.durationForms), longer than nothing")
                    }
                    file.configuration.gitTimeout = timeout
                }
            default:
                try file.section(value, key, ["actor"]) { file, key, value in
                    file.configuration.actor = try file.line(value, key)
                }
            }
        }
    }

    private func roots(_ value: any TOMLValueConvertible) throws -> [String] {
        let expected = "an array of absolute paths such as [\"/srv/workdirs\"]"
        guard let array = value.array else { throw rejected(value, "roots", expected) }
        return try array.enumerated().map { index, element in
            guard let root = element.string, root.hasPrefix("/") else {
                throw rejected(element, "roots[\(index)]", expected)
            }
            return root
        }
    }

    private mutating func limits(_ value: any TOMLValueConvertible) throws {
        try section(value, "limits", ["per_repository", "per_role", "disk_reserve"]) { file, key, value in
            switch key {
            case "limits.per_repository":
                file.configuration.limits.perRepository = try file.integer(value, key, 1...Int.max)
            case "limits.per_role": file.configuration.limits.perRole = try file.integer(value, key, 1...Int.max)
            default:
                guard let bytes = value.int.map(Int64.init) ?? value.string.flatMap(Quantity.bytes), bytes >= 0 else {
                    throw file.rejected(value, key, Quantity.sizeForms)
                }
                file.configuration.diskReserve = bytes
            }
        }
    }

    private mutating func policies(_ value: any TOMLValueConvertible) throws {
        try section(value, "policies", Outcome.allCases.map(\.rawValue)) { file, key, value in
            guard let outcome = Outcome(rawValue: String(key.trimmingPrefix("policies."))) else { return }
            file.configuration.policies[outcome] =
                switch value.string {
                case "immediate": .immediate
                case "keep": .keep
                default:
                    if let time = value.string.flatMap(Quantity.duration) {
                        .ttl(time)
                    } else {
                        throw file.rejected(value, key, "\"immediate\", \"keep\" or \(Quantity.durationForms)")
                    }
                }
        }
    }

    private mutating func branch(_ value: any TOMLValueConvertible) throws {
        try section(value, "branch", ["template", "delete_unmerged"]) { file, key, value in
            if key == "branch.delete_unmerged" {
                guard let flag = value.bool else { throw file.rejected(value, key, "true or false") }
                file.configuration.deletesUnmergedBranches = flag
                return
            }
            let template = try file.line(value, key)
            let rest = ["{issue}", "{run}", "{role}"].reduce(template) { $0.replacing($1, with: "") }
            guard !rest.contains(where: { "{}".contains($0) }) else {
                throw file.rejected(value, key, "a branch name with the placeholders {issue}, {run} and {role}")
            }
            file.configuration.branchTemplate = template
        }
    }

    // MARK: Values

    private typealias Reader = (inout ConfigurationFile, String, any TOMLValueConvertible) throws -> Void

    private mutating func section(
        _ value: any TOMLValueConvertible, _ name: String, _ known: [String], _ read: Reader
    ) throws {
        guard let table = value.table else { throw rejected(value, name, "a table: [\(name)]") }
        try each(table, "\(name).", known, read)
    }

    private mutating func each(_ table: TOMLTable, _ prefix: String, _ known: [String], _ read: Reader) throws {
        for (key, value) in table {
            guard known.contains(key) else {
                let place = prefix.isEmpty ? "at the top" : "in [\(prefix.dropLast())]"
                throw Self.failure(
                    "\(path): \(prefix)\(key): no such key. Known \(place): \(known.joined(separator: ", ")).")
            }
            try read(&self, prefix + key, value)
        }
    }

    private func integer(
        _ value: any TOMLValueConvertible, _ key: String, _ range: ClosedRange<Int>
    ) throws -> Int {
        guard let number = value.int, range.contains(number) else {
            let upper =
                range.upperBound == .max
                ? "of \(range.lowerBound) or more" : "from \(range.lowerBound) to \(range.upperBound)"
            throw rejected(value, key, "a whole number \(upper)")
        }
        return number
    }

    private func word<Meaning>(
        _ value: any TOMLValueConvertible, _ key: String, _ words: [String: Meaning], _ expected: String
    ) throws -> Meaning {
        guard let meaning = value.string.flatMap({ words[$0] }) else { throw rejected(value, key, expected) }
        return meaning
    }

    private func line(_ value: any TOMLValueConvertible, _ key: String) throws -> String {
        guard let text = value.string, !text.isEmpty, !text.contains(where: \.isNewline) else {
            throw rejected(value, key, "a text of one line, not empty")
        }
        return text
    }

    private func rejected(_ value: any TOMLValueConvertible, _ key: String, _ expected: String) -> Failure {
        let found = value.string.map { String(reflecting: $0) } ?? "\(value.type) \(value.debugDescription)"
        return Self.failure("\(path): \(key): \(found) is not accepted. Expected \(expected).")
    }

    private static func unreadable(_ path: String) -> Failure {
        let remedy = errno == EISDIR ? "Put a file in its place." : "Give this user the right to it, or remove it."
        return failure("\(path) cannot be read: \(String(cString: strerror(errno))). \(remedy)")
    }

    private static func failure(_ message: String) -> Failure {
        Failure(.configuration, message, .needsHuman, status: .needsHuman)
    }
}

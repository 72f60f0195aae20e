import CLinux
import Foundation
import Git
import Glibc

/// Who can serve a repository, and why not libgit2 where it cannot.
public struct Support: Hashable, Sendable {
    /// What libgit2 would refuse or silently get wrong, one line each with the file or setting; empty when the
    /// repository is served in process.
    public let reasons: [String]

    /// Served in process by libgit2.
    public var isNative: Bool { reasons.isEmpty }

    /// The features that libgit2 1.5 handles as git does. Any other `extensions.*` belongs to git, also at format version
    /// 0, where libgit2 ignores it.
    private static let knownExtensions: Set<String> = ["extensions.noop", "extensions.preciousobjects"]

    /// Checks what holds for every commit of a repository. Opens no repository, so it works where libgit2 refuses.
    static func repositoryReasons(_ location: RepositoryLocation) throws -> [String] {
        let commonDir = location.commonDir
        var reasons: [String] = []
        let entries: [ConfigEntry]
        do { entries = try ConfigFile.entries("\(commonDir)/config") } catch {
            return ["\(commonDir)/config cannot be parsed by libgit2: \(error.message)"]
        }
        for entry in entries where entry.name.hasPrefix("extensions.") && !knownExtensions.contains(entry.name) {
            if entry.name == "extensions.objectformat", entry.value.lowercased() == "sha1" { continue }
            reasons.append("\(entry.name) = \(entry.value)")
        }
        for entry in entries where entry.name.hasSuffix(".promisor") && entry.isTrue {
            reasons.append("partial clone (\(entry.name))")
        }
        for (file, what) in [
            ("shallow", "shallow history"), ("info/grafts", "grafts"), ("reftable", "reftable"),
            ("config.worktree", "configuration per worktree"),
        ] where exists("\(commonDir)/\(file)") {
            reasons.append("\(what) (\(file))")
        }
        if location.gitDir != commonDir, exists("\(location.gitDir)/config.worktree") {
            reasons.append("configuration per worktree (config.worktree)")
        }
        for directory in Set([commonDir, location.gitDir]).sorted() where exists("\(directory)/info/sparse-checkout") {
            reasons.append("sparse checkout (\(directory)/info/sparse-checkout)")
        }
        if try hasReplaceReferences(commonDir) { reasons.append("replace references (refs/replace)") }
        if try hasPromisorPack(commonDir) { reasons.append("partial clone (*.promisor)") }
        return reasons
    }

    /// Checks the configuration that applies, system and user files included.
    static func configurationReasons(_ entries: [ConfigEntry]) -> [String] {
        var reasons: [String] = []
        // The last entry of a name wins.
        let values = Dictionary(entries.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        for name in ["core.sparsecheckout", "index.sparse", "core.splitindex", "index.skiphash", "feature.manyfiles"] {
            if let entry = values[name], entry.isTrue { reasons.append("\(name) = true") }
        }
        // Since 2.43 git reads attributes from it alone. GIT_ATTR_SOURCE does the same, but is not passed on to git.
        if let tree = values["attr.tree"], !tree.value.isEmpty { reasons.append("attr.tree = \(tree.value)") }
        if let links = values["core.symlinks"], !links.isTrue { reasons.append("core.symlinks = \(links.value)") }
        if let shared = values["core.sharedrepository"],
            !["umask", "false", "no", "off", "0"].contains(shared.value.lowercased())
        {
            reasons.append("core.sharedRepository = \(shared.value)")
        }
        if entries.contains(where: { $0.name.hasPrefix("includeif.hasconfig:") }) {
            reasons.append("includeIf.hasconfig, which libgit2 ignores")
        }
        reasons += conditionalIncludes(entries)
        if let format = values["core.repositoryformatversion"].flatMap({ Int($0.value) }), format > 1 {
            reasons.append("core.repositoryFormatVersion = \(format)")
        }
        return reasons
    }

    /// Files that git includes by git directory or branch: both are others in a worktree than here, where the
    /// configuration is read. They count when they set something that a checkout reads.
    private static func conditionalIncludes(_ entries: [ConfigEntry]) -> [String] {
        entries.compactMap { entry in
            guard entry.name.hasPrefix("includeif.gitdir") || entry.name.hasPrefix("includeif.onbranch:") else {
                return nil
            }
            let home = variable("HOME") ?? ""
            let path = entry.value.hasPrefix("~/") ? home + entry.value.dropFirst(1) : entry.value
            if path.hasPrefix("/"), let included = try? ConfigFile.entries(path),
                !included.contains(where: {
                    ["core.", "filter.", "include", "extensions.", "index.", "feature."].contains(
                        where: $0.name.hasPrefix)
                })
            {
                return nil
            }
            return "\(entry.name), which may set another configuration in a worktree"
        }
    }

    /// What the attributes of a tree ask for.
    struct Attributes: Sendable {
        /// Why git must write this tree; empty when libgit2 can.
        var reasons: [String] = []
        /// Files that may need another content than their blobs', so that their attributes are looked up.
        var conversion = Conversion.none
    }

    /// Checks what the target tree asks for: paths that git itself refuses, and attributes that need an external program,
    /// another encoding or a conversion.
    ///
    /// Attribute files are searched as text, which can only ask once too often: a word counts wherever it stands, also in
    /// a macro, and `filter=X` only if a `filter.X.*` is configured. Of all line ending attributes only `eol=crlf` changes
    /// what a checkout writes, as long as the configuration does not ask for CRLF. See: git `convert.c` (`output_eol`)
    static func attributes(
        _ flat: FlatTree, _ repository: borrowing Repository, configuration: [ConfigEntry], commonDir: String
    ) throws -> Attributes {
        var attributes = Attributes()
        if let path = flat.refusedPath { attributes.reasons.append("the tree has a path that git refuses: \(path)") }
        if let path = flat.unorderedPath {
            attributes.reasons.append("the tree is not in git's order, or has a name twice: \(path)")
        }
        var sources: [(name: String, directory: Substring, content: [UInt8])] = []
        for entry in flat.entries where flat.name(entry).elementsEqual(".gitattributes".utf8) {
            if entry.isSymlink {
                attributes.reasons.append("\(flat.path(entry)) is a symbolic link")
            } else if !entry.isSubmodule {
                let content = try repository.withObject(entry.id) { Array($0) }
                let path = flat.path(entry)
                sources.append((path, path.dropLast("/.gitattributes".utf8.count), content))
            }
        }
        sources += userAttributeFiles(configuration, commonDir: commonDir).map { ($0.name, "", $0.content) }
        let drivers = Set(
            configuration.compactMap { entry -> String? in
                let parts = entry.name.split(separator: ".", maxSplits: 1)
                guard parts.count == 2, parts[0] == "filter", let dot = parts[1].lastIndex(of: ".") else { return nil }
                return String(parts[1][..<dot])
            })
        var patterns: [AttributePattern] = []
        for source in sources {
            for line in lines(source.content) {
                let words = words(line)
                guard let pattern = words.first, !pattern.hasPrefix("#") else { continue }
                for word in words {
                    if word.hasPrefix("filter="), drivers.contains(String(word.dropFirst("filter=".count))) {
                        attributes.reasons.append("\(source.name): \(word) with a configured program")
                    }
                    if word.hasPrefix("working-tree-encoding=") { attributes.reasons.append("\(source.name): \(word)") }
                    if word == "eol=crlf" || word == "ident" || word.hasPrefix("ident=") {
                        patterns.append(AttributePattern(pattern[...], directory: source.directory))
                    }
                }
            }
        }
        func value(_ name: String) -> ConfigEntry? { configuration.last { $0.name == name } }
        // A `core.autocrlf` that is no boolean but `input` converts only on the way in.
        if value("core.autocrlf")?.isTrue == true || value("core.eol")?.value.lowercased() == "crlf" {
            attributes.conversion = .every
        } else if !patterns.isEmpty {
            attributes.conversion = .matching(patterns)
        }
        if attributes.conversion.isNeeded {
            if value("core.ignorecase")?.isTrue == true { attributes.reasons.append("core.ignorecase = true") }
            for source in sources {
                attributes.reasons += lines(source.content).compactMap(unusual).map { "\(source.name): \($0)" }
            }
        }
        attributes.reasons = Array(Set(attributes.reasons)).sorted()
        return attributes
    }

    /// What libgit2 reads otherwise than git in a line of attributes that may take part in a conversion; nil for a plain
    /// line. Rather once too often to git than once a wrong file. See: git `attr.c` (`parse_attr_line`), `convert.c`
    private static func unusual(_ line: ArraySlice<UInt8>) -> String? {
        // libgit2 takes the mark at the beginning of a file for a part of the first pattern.
        if line.starts(with: "\u{FEFF}".utf8) { return "a byte order mark" }
        if line.count > 2000 { return "a line of more than 2000 bytes, which git ignores" }
        let words = words(line)
        guard let pattern = words.first, !pattern.hasPrefix("#") else { return nil }
        // Patterns are compared as bytes, and these words have been decoded: beyond ASCII the two may differ.
        if line.contains(where: { $0 > 127 }) { return "a character that is not ASCII" }
        if pattern.hasPrefix("\"") { return "a quoted pattern" }
        if pattern.hasPrefix("!") { return "a negative pattern" }
        if pattern.hasPrefix("[attr]") { return "a macro" }
        // One CR may end the line; anywhere else what is a blank to the one need not be one to the other.
        let text = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
        if text.contains(where: { $0 < 32 && $0 != UInt8(ascii: "\t") }) { return "a control character" }
        return words.dropFirst().first { word in
            if ["text", "-text", "text=auto", "eol=lf", "eol=crlf", "binary"].contains(word) { return false }
            let name = word.drop { $0 == "-" || $0 == "!" }.prefix { $0 != "=" }
            return ["text", "eol", "crlf", "ident", "binary"].contains(name)
        }
    }

    /// The lines of an attribute file. To git an LF ends one and nothing else does, whatever Unicode says.
    /// See: git `attr.c` (`read_attr_from_buf`)
    private static func lines(_ content: [UInt8]) -> [ArraySlice<UInt8>] {
        content.split(separator: UInt8(ascii: "\n"))
    }

    /// The words of a line. They are parted as bytes: in a String a blank may be one character with what follows it.
    /// See: git `attr.c` (`blank`)
    private static func words(_ line: ArraySlice<UInt8>) -> [String] {
        line.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") }
            .map { String(decoding: $0, as: UTF8.self) }
    }

    /// Attribute files outside the tree that exist. See: man gitattributes (FILES)
    static func userAttributeFiles(
        _ configuration: [ConfigEntry], commonDir: String
    ) -> [(name: String, content: [UInt8])] {
        let home = variable("HOME") ?? ""
        let user =
            configuration.last { $0.name == "core.attributesfile" }.map { entry in
                // `~name/` as git expands it.
                NSString(string: entry.value.hasPrefix("~/") ? home + entry.value.dropFirst(1) : entry.value)
                    .expandingTildeInPath
            }
            ?? "\(variable("XDG_CONFIG_HOME").flatMap { $0.isEmpty ? nil : $0 } ?? "\(home)/.config")/git/attributes"
        return ["\(commonDir)/info/attributes", user, "/etc/gitattributes"].compactMap { path in
            contents(of: path).map { (path, $0) }
        }
    }

    /// One variable of the environment: `ProcessInfo` makes a dictionary of all.
    private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    private static func hasReplaceReferences(_ commonDir: String) throws -> Bool {
        if let directory = try? Directory("\(commonDir)/refs/replace"), try !directory.entries().isEmpty { return true }
        // It may have a hundred thousand lines.
        guard let packed = contents(of: "\(commonDir)/packed-refs"), !packed.isEmpty else { return false }
        let name = Array(" refs/replace/".utf8)
        return packed.withUnsafeBytes { memmem($0.baseAddress!, $0.count, name, name.count) } != nil
    }

    private static func hasPromisorPack(_ commonDir: String) throws -> Bool {
        guard let packs = try? Directory("\(commonDir)/objects/pack") else { return false }
        return try packs.entries().contains { $0.name.hasSuffix(".promisor") }
    }

    private static func exists(_ path: String) -> Bool {
        var value = stat()
        return lstat(path, &value) == 0
    }
}

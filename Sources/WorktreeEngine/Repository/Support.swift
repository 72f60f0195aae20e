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
        if let links = values["core.symlinks"], !links.isTrue { reasons.append("core.symlinks = \(links.value)") }
        if let shared = values["core.sharedrepository"],
            !["umask", "false", "no", "off", "0"].contains(shared.value.lowercased())
        {
            reasons.append("core.sharedRepository = \(shared.value)")
        }
        if entries.contains(where: { $0.name.hasPrefix("includeif.hasconfig:") }) {
            reasons.append("includeIf.hasconfig, which libgit2 ignores")
        }
        if let format = values["core.repositoryformatversion"].flatMap({ Int($0.value) }), format > 1 {
            reasons.append("core.repositoryFormatVersion = \(format)")
        }
        return reasons
    }

    /// What the attributes of a tree ask for.
    struct Attributes: Sendable {
        /// Why git must write this tree; empty when libgit2 can.
        var reasons: [String] = []
        /// Some file may need another content than its blob's, so that each path's attributes are looked up.
        var convert = false
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
        var sources: [(name: String, text: String)] = []
        for entry in flat.entries where flat.name(entry).elementsEqual(".gitattributes".utf8) {
            if entry.isSymlink {
                attributes.reasons.append("\(flat.path(entry)) is a symbolic link")
            } else if !entry.isSubmodule {
                let text = try repository.withObject(entry.id) { String(decoding: $0, as: UTF8.self) }
                sources.append((flat.path(entry), text))
            }
        }
        sources += userAttributeFiles(configuration, commonDir: commonDir)
        let drivers = Set(
            configuration.compactMap { entry -> String? in
                let parts = entry.name.split(separator: ".", maxSplits: 1)
                guard parts.count == 2, parts[0] == "filter", let dot = parts[1].lastIndex(of: ".") else { return nil }
                return String(parts[1][..<dot])
            })
        let lines = sources.flatMap { source in source.text.split(whereSeparator: \.isNewline).map { (source, $0) } }
        let macros = lines.compactMap { _, line in
            line.hasPrefix("[attr]") ? line.dropFirst("[attr]".count).prefix { $0 != " " && $0 != "\t" } : nil
        }
        let unsets = Set((macros + ["binary"]).flatMap { ["-\($0)", "!\($0)"] })
        for (source, text) in lines {
            let line = text.drop { $0 == " " || $0 == "\t" }
            if !line.hasPrefix("#") {
                if line.hasPrefix("\"") {
                    attributes.reasons.append("\(source.name): a quoted pattern, which libgit2 does not match")
                }
                for word in line.split(whereSeparator: { $0 == " " || $0 == "\t" }) {
                    if unsets.contains(String(word)) {
                        attributes.reasons.append("\(source.name): \(word) unsets a macro, which libgit2 applies")
                    }
                    if word.hasPrefix("filter="), drivers.contains(String(word.dropFirst("filter=".count))) {
                        attributes.reasons.append("\(source.name): \(word) with a configured program")
                    }
                    if word.hasPrefix("working-tree-encoding=") { attributes.reasons.append("\(source.name): \(word)") }
                    if word == "eol=crlf" || word == "ident" || word.hasPrefix("ident=") { attributes.convert = true }
                }
            }
        }
        attributes.reasons = Array(Set(attributes.reasons)).sorted()
        func value(_ name: String) -> ConfigEntry? { configuration.last { $0.name == name } }
        // A `core.autocrlf` that is no boolean but `input` converts only on the way in.
        if value("core.autocrlf")?.isTrue == true || value("core.eol")?.value.lowercased() == "crlf" {
            attributes.convert = true
        }
        return attributes
    }

    /// Attribute files outside the tree that exist. See: man gitattributes (FILES)
    static func userAttributeFiles(
        _ configuration: [ConfigEntry], commonDir: String
    ) -> [(name: String, text: String)] {
        let environment = ProcessInfo.processInfo.environment
        let home = environment["HOME"] ?? ""
        let user =
            configuration.last { $0.name == "core.attributesfile" }.map { entry in
                entry.value.hasPrefix("~/") ? home + entry.value.dropFirst(1) : entry.value
            }
            ?? "\(environment["XDG_CONFIG_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? "\(home)/.config")/git/attributes"
        return ["\(commonDir)/info/attributes", user, "/etc/gitattributes"].compactMap { path in
            (try? String(contentsOfFile: path, encoding: .isoLatin1)).map { (path, $0) }
        }
    }

    private static func hasReplaceReferences(_ commonDir: String) throws -> Bool {
        if let directory = try? Directory("\(commonDir)/refs/replace"), try !directory.entries().isEmpty { return true }
        guard let packed = try? String(contentsOfFile: "\(commonDir)/packed-refs", encoding: .isoLatin1) else {
            return false
        }
        return packed.contains(" refs/replace/")
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

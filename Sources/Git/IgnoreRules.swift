import CLibGit2
import Foundation
import Glibc

/// git's own rules of what is ignored, for a workdir.
///
/// libgit2 1.5 calls files ignored that git calls untracked: with `*/`, `/*/` or `**/` all those at the top, with a class
/// before a negation (`[a-z]*` and `!a`), with a tab or an escaped space at the end of a pattern. A removal takes what is
/// ignored, so its verdict does not count. See: git `dir.c` (`last_matching_pattern`)
final class IgnoreRules {
    private let workdir: [UInt8]
    /// `core.excludesFile`, then `info/exclude`: the later one wins.
    private let shared: [PatternList]
    private var lists: [[UInt8]: PatternList] = [:]
    private var verdicts: [[UInt8]: Bool] = [:]

    /// - Parameters:
    ///   - workdir: the top of the files.
    ///   - files: pattern files that apply everywhere, in ascending order of precedence.
    init(workdir: String, files: [String]) {
        self.workdir = Array(workdir.utf8)
        shared = files.map { PatternList(file: Array($0.utf8), follow: true) }
    }

    /// Whether git ignores a path below the top, itself or with a directory above it.
    func ignores(_ path: ArraySlice<UInt8>, isDirectory: Bool) -> Bool {
        if let slash = path.lastIndex(of: UInt8(ascii: "/")) {
            let parent = path[..<slash]
            let key = Array(parent)
            let verdict = verdicts[key] ?? ignores(parent, isDirectory: true)
            verdicts[key] = verdict
            if verdict { return true }
        }
        return match(Array(path), isDirectory: isDirectory)
    }

    private func match(_ path: [UInt8], isDirectory: Bool) -> Bool {
        var base = path.count
        repeat {
            // The directory's own file first, then those above it.
            base = path[..<base].lastIndex(of: UInt8(ascii: "/")) ?? 0
            if let verdict = list(of: path[..<base]).verdict(path, base: base, isDirectory: isDirectory) {
                return verdict
            }
        } while base > 0
        for list in shared.reversed() {
            if let verdict = list.verdict(path, base: 0, isDirectory: isDirectory) { return verdict }
        }
        return false
    }

    private func list(of directory: ArraySlice<UInt8>) -> PatternList {
        let key = Array(directory)
        if let known = lists[key] { return known }
        let prefix = workdir + [UInt8(ascii: "/")] + key + (key.isEmpty ? [] : [UInt8(ascii: "/")])
        // git reads a `.gitignore` only when it is no symbolic link. See: git 2.32 release notes
        let made = PatternList(file: prefix + Array(".gitignore".utf8), follow: false)
        lists[key] = made
        return made
    }
}

/// The patterns of one file. See: git `dir.c` (`add_patterns_from_buffer`, `parse_path_pattern`)
private struct PatternList {
    private struct Pattern {
        var text: [UInt8]
        var isNegative = false
        var isForDirectories = false
        var isForNames = false
        /// How many bytes at the beginning are literal.
        var literal: Int

        init(_ line: ArraySlice<UInt8>) {
            var rest = line
            if rest.first == UInt8(ascii: "!") {
                isNegative = true
                rest = rest.dropFirst()
            }
            literal = rest.firstIndex(where: isGlobSpecial).map { $0 - rest.startIndex } ?? rest.count
            if rest.last == UInt8(ascii: "/") {
                isForDirectories = true
                rest = rest.dropLast()
            }
            isForNames = !rest.contains(UInt8(ascii: "/"))
            literal = min(literal, rest.count)
            text = Array(rest)
            if !isForNames, text.first == UInt8(ascii: "/") {
                text.removeFirst()
                literal -= 1
            }
        }
    }

    private var patterns: [Pattern] = []

    init(file: [UInt8], follow: Bool) {
        guard var content = readFile(file, follow: follow)?[...] else { return }
        if content.starts(with: [0xEF, 0xBB, 0xBF]) { content = content.dropFirst(3) }
        for var line in content.split(separator: UInt8(ascii: "\n")) where line.first != UInt8(ascii: "#") {
            if line.last == UInt8(ascii: "\r") { line = line.dropLast() }
            patterns.append(Pattern(Self.trimmed(line.prefix { $0 != 0 })))
        }
    }

    /// Without the spaces at its end that no backslash keeps. See: git `dir.c` (`trim_trailing_spaces`)
    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var end = line.startIndex
        var position = line.startIndex
        while position < line.endIndex {
            if line[position] == UInt8(ascii: "\\") {
                position += 1
                if position == line.endIndex { return line }
            } else if line[position] == UInt8(ascii: " ") {
                position += 1
                continue
            }
            position += 1
            end = position
        }
        return line[..<end]
    }

    /// What the last pattern that matches says; nil when none does.
    /// - Parameter base: the length of the directory that holds the file of patterns.
    func verdict(_ path: [UInt8], base: Int, isDirectory: Bool) -> Bool? {
        let name = path.lastIndex(of: UInt8(ascii: "/")).map { path[($0 + 1)...] } ?? path[...]
        let relative = path[(base == 0 ? 0 : base + 1)...]
        let found = patterns.last { pattern in
            if pattern.isForDirectories, !isDirectory { return false }
            if pattern.isForNames { return Wildmatch.matches(pattern.text[...], name, isPath: false) }
            guard relative.starts(with: pattern.text[..<pattern.literal]) else { return false }
            let rest = pattern.text[pattern.literal...]
            let remaining = relative.dropFirst(pattern.literal)
            // Split here as git does: `**` right after the literal part counts as the beginning of a pattern.
            return rest.isEmpty && remaining.isEmpty || Wildmatch.matches(rest, remaining, isPath: true)
        }
        return found.map { !$0.isNegative }
    }
}

private func isGlobSpecial(_ byte: UInt8) -> Bool {
    [UInt8(ascii: "*"), UInt8(ascii: "?"), UInt8(ascii: "["), UInt8(ascii: "\\")].contains(byte)
}

private func readFile(_ path: [UInt8], follow: Bool) -> [UInt8]? {
    let name = (path + [0]).map { CChar(bitPattern: $0) }
    let file = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW))
    guard file >= 0 else { return nil }
    defer { close(file) }
    var content: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = read(file, &chunk, chunk.count)
        if count < 0, errno == EINTR { continue }
        if count < 0 { return nil }
        if count == 0 { return content }
        content += chunk[..<count]
    }
}

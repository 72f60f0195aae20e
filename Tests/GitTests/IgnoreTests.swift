import Foundation
import Git
import TestSupport
import Testing

/// What git calls untracked must never be called ignored: a cleanup removes what is ignored.
@Suite struct IgnoreTests {
    /// Each once ignored a file here that git calls untracked.
    @Test(
        arguments: [
            ("/*/\n", ["a", "d/b"]), ("**/\n", ["a", "d/b"]), ("/**/\n", ["a"]), ("**/*/\n", ["a", "d/b"]),
            ("*/\n!/d/\n", ["a", "d/b"]),
            ("e\t\n", ["d/e/f", "e/g"]), ("foo*/bar/\t\n", ["foo/bar/x"]), ("foo\\ \t\n", ["foo ", "foo"]),
            ("/[A-Z]/*\n!foo\n", ["A/foo", "A/bar"]), ("a\\*b\n", ["d/build/a*b", "a*b", "axb"]),
            ("[a-z]*/**\n!a\n", ["d/a", "a"]),
            ("**/**/[[:alpha:]]/**\\", ["d/foo/ab", "d/f/ab"]), ("*?/**\\\r\n", ["d/e/foo "]),
            ("?\t\r\n", ["d/a.txt", "d/a"]),
            ("**b\t\n", ["d/!b"]), ("**/foo/\n!a\n", ["foo/a"]), ("foo**/bar\n", ["foo/x/bar", "fooy/bar"]),
            ("x \n", ["x", "x "]),
            ("\\#c\n\\!b\n", ["#c", "!b"]), ("a/**\n!a/**/\n!a/k\n", ["a/b/k", "a/k", "a/l"]), ("\u{FEFF}a\n", ["a"]),
            ("*\n!*/\n!*.c\n", ["a.c", "d/a.c", "d/a.h"]), ("/*\n!/d\n/d/*\n!/d/e\n", ["a", "d/a", "d/e/a"]),
        ] as [(String, [String])])
    func `a pattern ignores what git ignores`(patterns: String, files: [String]) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("tracked")])
        for file in files + ["other", "d/other"] { try write(TestFile(file), in: repository.path) }
        try write(TestFile(".gitignore", patterns), in: repository.path)
        try await expectNothingHidden(in: repository.path, patterns.debugDescription)
    }

    @Test func `negations in nested files, info and the user's file are honoured`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("tracked")])
        for file in ["a.log", "d/a.log", "d/e/a.log", "d/keep.tmp", "x.tmp", "build/x", "d/build/x"] {
            try write(TestFile(file), in: repository.path)
        }
        try write(TestFile(".gitignore", "*.log\nbuild/\n"), in: repository.path)
        try write(TestFile("d/.gitignore", "!a.log\n!build/\n"), in: repository.path)
        try write(TestFile("d/e/.gitignore", "a.log\n"), in: repository.path)
        try write(TestFile(".git/info/exclude", "*.tmp\n!keep.tmp\n"), in: repository.path)
        try write(TestFile("user", "x.*\nother\n"), in: scratch.path)
        try write(TestFile("other"), in: repository.path)
        try await git("config", "core.excludesFile", "\(scratch.path)/user", in: repository.path)
        try await expectNothingHidden(in: repository.path)
    }

    @Test func `a .gitignore that is a symbolic link is no .gitignore`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("tracked")])
        try write(TestFile("patterns", "a\n"), in: repository.path)
        try write(TestFile("a"), in: repository.path)
        try write(TestFile("d/a"), in: repository.path)
        try write(TestFile(".gitignore", "patterns", .link), in: repository.path)
        try write(TestFile("d/.gitignore", "../patterns", .link), in: repository.path)
        try await expectNothingHidden(in: repository.path)
    }

    @Test func `untracked files beside tracked ones in an ignored directory are ignored as in git`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("build/tracked"), TestFile("k/tracked")])
        for file in ["build/new", "build/deep/new", "k/new", "k/deep/new"] {
            try write(TestFile(file), in: repository.path)
        }
        try write(TestFile(".gitignore", "build\nk/*\n!k/deep/\n"), in: repository.path)
        try await expectNothingHidden(in: repository.path)
    }

    /// More rounds: `WTENGINE_IGNORE_ROUNDS=1000 swift test --filter generated`.
    @Test(arguments: UInt64(1)...4)
    func `generated patterns never hide what git calls untracked`(seed: UInt64) async throws {
        let rounds = ProcessInfo.processInfo.environment["WTENGINE_IGNORE_ROUNDS"].flatMap { Int($0) } ?? 15
        var random = PatternGenerator(state: seed &* 7919)
        let scratch = try Scratch()
        for round in 0..<rounds {
            let repository = "\(scratch.path)/r"
            try await run(["git", "init", "--quiet", repository], in: scratch.path)
            let description = try random.fill(repository)
            if round % 3 == 0 { try await sh("git add -f -- \"$(ls | head -1)\" 2>/dev/null || true", in: repository) }
            try await expectNothingHidden(in: repository, description)
            try FileManager.default.removeItem(atPath: repository)
        }
    }
}

/// A small random generator of files and patterns; the same for the same seed.
private struct PatternGenerator {
    var state: UInt64

    mutating func next(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % UInt64(bound))
    }

    mutating func pick(_ words: [String]) -> String { words[next(words.count)] }

    mutating func pattern() -> String {
        let atoms = [
            "a", "b", "foo", "*.log", "*", "build", "d", "e", "foo.log", ".x", "x y", "A", "ab*", "*b", "?", "[ab]",
            "[!a]", "[^a]",
            "foo*", "a?", ".*", "\\!b", "\\#c", "a\\*b", "\\\\d", "[[]a]", "foo\\ ", "é", "[a-z]*", "[[:alpha:]]",
            "bar", "\\foo", "**",
            "a**", "**b", "*?", "[A-Z]", "[]a]", "[a", "[[:x:]]", "[a-]",
        ]
        var text = (0...next(3)).map { _ in pick(atoms) }.joined(separator: "/")
        text =
            pick(["", "", "", "", "/", "/", "**/", "//"]) + text
            + pick(["", "", "", "", "", "/", "/", "/**", "/*", "//"])
        if next(3) == 0 { text = "!" + text }
        return text + pick(["", "", "", "", "", "", "", " ", "\\ ", "\t", "  ", "\r", "\\"])
    }

    mutating func fill(_ repository: String) throws -> String {
        let names = [
            "a", "b", "foo", "foo.log", "a.txt", "build", ".x", "x y", "A", "foo ", "!b", "#c", "\\d", "a*b", "[a]",
            "foo?", "é", "ab",
        ]
        let directories = [
            "", "d/", "d/e/", "foo/", "a/", "d/foo/", "build/", "A/", "x y/", "foo/bar/", "a/b/c/", ".x/", "d/build/",
        ]
        var used: [String] = [""]
        for _ in 0...next(5) {
            let directory = pick(directories)
            for _ in 0...next(5) {
                // A name may be taken by a directory, or the other way round.
                if (try? write(TestFile(directory + pick(names)), in: repository)) != nil { used.append(directory) }
            }
        }
        var description = ""
        for directory in Set(used).sorted() where directory.isEmpty || next(3) == 0 {
            let text = (0...next(4)).map { _ in pattern() }.joined(separator: "\n") + pick(["\n", "\n", ""])
            try write(TestFile(directory + ".gitignore", text), in: repository)
            description += "\(directory).gitignore: \(text.debugDescription) "
        }
        return description
    }
}

private func expectNothingHidden(in directory: String, _ context: String = "") async throws {
    let output = try await bytes("git status --porcelain -z --untracked-files=all --no-renames", in: directory)
    let expected = output.split(separator: 0).filter { $0.starts(with: "?? ".utf8) }.map { Array($0.dropFirst(3)) }
    let found = Set(try Repository(gitDirectory: "\(directory)/.git").status().filter(\.isUntracked).map(\.path))
    let hidden = expected.filter { !found.contains($0) }.map { String(decoding: $0, as: UTF8.self) }
    #expect(hidden.isEmpty, "\(context)")
}

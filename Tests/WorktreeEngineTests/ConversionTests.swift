import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// Attributes and configuration that change what is written.
@Suite struct ConversionTests {
    private static let texts: [TestFile] = [
        TestFile("lf.txt", "one\ntwo\n"), TestFile("crlf.txt", "one\r\ntwo\r\n"), TestFile("mixed.txt", "one\r\ntwo\n"),
        TestFile("cr.txt", "one\rtwo\r"), TestFile("binary", "a\0b\r\nc\n"), TestFile("empty", ""),
        TestFile("none", "no end"),
        TestFile("sub/lf.txt", "one\ntwo\n"), TestFile("sub/crlf.txt", "one\r\ntwo\r\n"),
        TestFile("run.sh", "#!/bin/sh\n", .executable),
        TestFile("id.c", "/* $Id$ and $Id$ */\n"), TestFile("id-expanded.c", "/* $Id: 0123 $ */\n"),
        TestFile("link", "lf.txt", .link),
        TestFile("!before", "one\ntwo\n"), TestFile("z.txt", "one\ntwo\n"),
    ]

    /// Commits the blobs as they are, whatever the attributes would make of them.
    private func repository(_ attributes: String?, _ scratch: Scratch, more: [TestFile] = []) async throws
        -> TestRepository
    {
        let repository = try await scratch.repository("repo", Self.texts + more)
        if let attributes {
            try write(TestFile(".gitattributes", attributes), in: repository.path)
            try await sh(
                """
                git update-index --add --cacheinfo 100644,$(git hash-object -w --no-filters .gitattributes),.gitattributes
                git commit -q -m attributes
                """, in: repository.path)
        }
        return repository
    }

    @Test(arguments: [
        "* text=auto\n", "* text=auto eol=crlf\n", "* text eol=crlf\n", "* text eol=lf\n", "*.txt text\n",
        "*.txt eol=crlf\n",
        "* -text\n", "* binary\n", "* crlf\n", "* crlf=input\n", "* -crlf\n", "* text=auto\n*.txt binary\n",
        "* text=auto -eol\n*.txt eol=lf\n",
        "/lf.txt eol=crlf\nsub/ eol=crlf\nsub/** text eol=crlf\n", "* text=auto\n.gitattributes text eol=crlf\n",
        "*.txt text eol=crlf\r\n", "# comment\n*.txt text eol=crlf", "* filter=unconfigured diff=x merge=y -text\n",
        "*.txt whitespace=tab-in-indent text eol=crlf\n", "lf.tx[!x] eol=crlf\n", "* text=auto eol=lf\n",
    ])
    func `attributes are applied as git applies them`(attributes: String) async throws {
        let scratch = try Scratch()
        try await expectEqual(repository(attributes, scratch), scratch)
    }

    /// libgit2 takes quotes and a byte order mark for a part of the name, applies a macro where it is unset and a pattern
    /// that git ignores, and expands only the first `$Id$` of a file.
    @Test(arguments: [
        "*.c ident\n", "* ident text=auto eol=crlf\n", "[attr]win text eol=crlf\n*.txt win\n",
        "* text=auto !eol\n*.txt eol=crlf -text\n", "\u{FEFF}*.txt eol=crlf\n", "!*.txt eol=crlf\n",
        "*.txt binary\n*.txt !text eol=crlf\n", "*.txt text=foo eol=crlf\n", "*.txt eol=crlf\nsub/* -eol\n",
        "*.txt eol=crlf " + String(repeating: "a ", count: 1100) + "\n",
        "\"lf.txt\" eol=crlf\n", "[attr]win text eol=crlf\n*.txt win\nsub/* -win\n",
        "[attr]win text eol=crlf\n* win\nsub/* !win\n",
        "*.txt text eol=crlf\nsub/* -binary\n",
    ])
    func `attributes that libgit2 reads wrongly are left to git`(attributes: String) async throws {
        let scratch = try Scratch()
        try await expectEqual(repository(attributes, scratch), scratch, materializer: .git)
    }

    @Test(
        arguments: [
            ["core.autocrlf=true"], ["core.autocrlf=input"], ["core.autocrlf=false"], ["core.eol=crlf"],
            ["core.eol=lf"],
            ["core.autocrlf=true", "core.eol=lf"], ["core.autocrlf=input", "core.eol=crlf"],
            ["core.safecrlf=true", "core.autocrlf=true"],
            ["core.filemode=false"],
        ], [nil, "* text=auto\n", "*.txt text\nsub/* eol=lf\n"])
    func `configuration is applied as git applies it`(settings: [String], attributes: String?) async throws {
        let scratch = try Scratch()
        let repository = try await repository(attributes, scratch)
        for setting in settings {
            let parts = setting.split(separator: "=").map(String.init)
            try await git("config", parts[0], parts[1], in: repository.path)
        }
        try await expectEqual(repository, scratch)
    }

    /// Swift takes these for the end of a line, or for a part of the blank before them; git takes them for letters.
    @Test(arguments: ["\r", "\u{0B}", "\u{0C}", "\u{85}", "\u{2028}", "\u{2029}", " \u{301}"], [true, false])
    func `nothing but a line feed ends a line of attributes`(_ text: String, _ isInPattern: Bool) async throws {
        let lines = isInPattern ? "*.t\(text)xt eol=crlf\n# eol=crlf\n" : "*.txt\(text)eol=crlf\n*.c eol=crlf \(text)\n"
        for file in [".gitattributes", ".git/info/attributes"] {
            let scratch = try Scratch()
            let isTracked = file == ".gitattributes"
            let repository = try await repository(isTracked ? lines : nil, scratch)
            if !isTracked { try write(TestFile(file, lines), in: repository.path) }
            let engine = try await scratch.engine()
            let workdir = try await engine.spawn(request(repository.path))
            let expected = try await gitsOwnCheckout(of: workdir.base, in: repository.path, scratch: scratch)
            #expect(try snapshot(workdir.path) == expected)
        }
    }

    @Test func `a filter whose name is not ASCII is found in every attribute file`() async throws {
        let scratch = try Scratch()
        let repository = try await repository(nil, scratch)
        try await git("config", "filter.ü.smudge", "tr a-z A-Z", in: repository.path)
        try write(TestFile(".git/info/attributes", "*.txt filter=ü\n"), in: repository.path)
        try await expectEqual(repository, scratch, materializer: .git)
    }

    @Test func `attributes come from info and from the user's file as well`() async throws {
        let scratch = try Scratch()
        let repository = try await repository(nil, scratch)
        try write(TestFile(".git/info/attributes", "crlf.txt -text\n"), in: repository.path)
        try write(TestFile("user", "*.txt text eol=crlf\n"), in: scratch.path)
        try await git("config", "core.attributesFile", "\(scratch.path)/user", in: repository.path)
        try await expectEqual(repository, scratch)
    }

    @Test(arguments: [
        "café.txt text eol=crlf", "Å.txt text eol=crlf", "\u{FEFF}n.txt text eol=crlf",
        #"$(printf 'caf\351').txt eol=crlf"#,
    ])
    func `patterns beyond ASCII are left to git, wherever they stand`(line: String) async throws {
        for file in [".gitattributes", ".git/info/attributes"] {
            let scratch = try Scratch()
            let files = ["café.txt", "Å.txt", "n.txt"].map { TestFile($0, "1\n2\n") }
            let repository = try await repository(nil, scratch, more: files)
            try await sh(
                "mkdir -p .git/info; printf '%s\\n' \"\(line)\" >'\(file)'; git add -A; git commit -qm x --allow-empty",
                in: repository.path)
            try await expectEqual(repository, scratch, materializer: .git)
        }
    }

    @Test func `attributes of the main worktree and its index count for nothing`() async throws {
        let scratch = try Scratch()
        let repository = try await repository(nil, scratch)
        try write(TestFile(".gitattributes", "* text eol=crlf\n"), in: repository.path)
        try await git("add", ".gitattributes", in: repository.path)
        try await expectEqual(repository, scratch)
    }

    @Test func `nested attribute files win over those above, also where they convert themselves`() async throws {
        let scratch = try Scratch()
        let more = [
            TestFile("sub/.gitattributes", "*.txt -text\n"), TestFile("sub/in/.gitattributes", "* text eol=lf\n"),
            TestFile("sub/in/x.txt", "1\n2\n"),
        ]
        try await expectEqual(repository("* text eol=crlf\n", scratch, more: more), scratch)
    }

    @Test(arguments: ["onbranch:run/**", "gitdir:**/worktrees/**"])
    func `configuration that only worktrees include is left to git when it matters`(condition: String) async throws {
        let scratch = try Scratch()
        let repository = try await repository("* text=auto\n", scratch)
        try write(TestFile("included", "[core]\n\tautocrlf = true\n"), in: scratch.path)
        try await git("config", "includeIf.\(condition).path", "\(scratch.path)/included", in: repository.path)
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path))
        #expect(workdir.materializer == .git)
        try write(TestFile("included", "[user]\n\tname = Somebody\n"), in: scratch.path)
        let second = try await engine.spawn(request(repository.path, issue: "local#2"))
        #expect(second.materializer == .checkout)
    }

    private func expectEqual(
        _ repository: TestRepository, _ scratch: Scratch, materializer: Materializer = .checkout
    ) async throws {
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path))
        #expect(workdir.materializer == materializer)
        let oracle = "\(scratch.path)/oracle"
        try await git("worktree", "add", "--quiet", "--detach", oracle, workdir.base, in: repository.path)
        let (found, expected) = (try snapshot(workdir.path), try snapshot(oracle))
        for path in Set(found.keys).union(expected.keys).sorted() { #expect(found[path] == expected[path], "\(path)") }
        // The second keeps the contents in memory where nothing is converted, and the third is written from there.
        if materializer == .checkout {
            for number in 2...3 {
                let next = try await engine.spawn(request(repository.path, issue: "local#\(number)"))
                #expect(try snapshot(next.path) == found)
            }
        }
        // A CRLF blob under `text` is modified to git as soon as it reads the content, which it does in its own worktree
        // because the index there is racy. So ours may be cleaner, never dirtier.
        let dirty = Set(try await sh("git status --porcelain", in: oracle).split(separator: "\n"))
        // What git itself wrote is racy in both, so that only chance decides there.
        if materializer == .checkout {
            #expect(
                Set(try await sh("git status --porcelain", in: workdir.path).split(separator: "\n")).isSubset(of: dirty)
            )
        }
        #expect(try await git("diff-index", "--cached", "HEAD", in: workdir.path) == "")
    }
}

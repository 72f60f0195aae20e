import Foundation
import Glibc

/// A file of a test repository.
public struct TestFile: Sendable {
    /// The path below the top.
    public let path: String
    /// The content, or the target of a link.
    public let content: [UInt8]
    /// `file`, `executable` or `link`.
    public let kind: Kind

    /// What a file is.
    public enum Kind: Sendable {
        /// Mode 0644.
        case file
        /// Mode 0755.
        case executable
        /// A symbolic link.
        case link
    }

    /// A file with text.
    public init(_ path: String, _ text: String = "text\n", _ kind: Kind = .file) {
        self.path = path
        content = Array(text.utf8)
        self.kind = kind
    }

    /// One of everything that a checkout may get wrong.
    public static let assorted: [TestFile] = [
        TestFile(
            ".gitattributes", "*.bat text eol=crlf\n*.txt text\n*.bin -text\nsub/*.dat text eol=crlf\n"),
        TestFile(".gitignore", "*.log\nbuild/\n"),
        TestFile("!first", "sorts before .gitattributes\n"),
        TestFile("-dash.bat", "echo\n"),
        TestFile("README.md", "hello\n"),
        TestFile("bin/run", "#!/bin/sh\nexit 0\n", .executable),
        TestFile("crlf.bat", "one\ntwo\n"),
        TestFile("empty"),
        TestFile("zero", ""),
        TestFile("binary.bin", "a\r\nb\0c\n"),
        TestFile("version.id", "$Id$\n"),
        TestFile("with space/and tab\there", "x\n"),
        TestFile("ünïcödé/日本語.txt", "ü\n"),
        TestFile("sub/.gitattributes", "*.dat -text\n"),
        TestFile("sub/data.dat", "l1\nl2\n"),
        TestFile("sub/deep/er/file.bat", "deep\n"),
        TestFile("link", "README.md", .link),
        TestFile("dirlink", "sub", .link),
        TestFile("broken", "../outside/nothing", .link),
    ]
}

/// A repository made by git itself.
public struct TestRepository: Sendable {
    /// Its worktree.
    public let path: String

    /// Makes it, with one commit on `main`.
    /// - Parameter arguments: more for `git init`.
    public init(path: String, files: [TestFile], arguments: [String] = []) async throws {
        self.path = path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try await run(["git", "init", "--quiet", "--initial-branch=main"] + arguments, in: path)
        // Commits made by the library's users need a name; the global configuration is not theirs here.
        try await git("config", "user.name", "Test", in: path)
        try await git("config", "user.email", "t@example.org", in: path)
        try await commit(files, message: "first")
    }

    /// Writes files and commits them.
    /// - Returns: the commit.
    @discardableResult
    public func commit(_ files: [TestFile], message: String) async throws -> String {
        for file in files { try write(file, in: path) }
        try await git("add", "--all", "--force", in: path)
        try await git("commit", "--quiet", "--allow-empty", "-m", message, in: path)
        return try await head()
    }

    /// The commit of HEAD.
    public func head() async throws -> String {
        try await git("rev-parse", "HEAD", in: path).trimmingCharacters(in: .whitespacesAndNewlines)
    }
}

/// Writes a tree object as it is asked for, in an order and with names twice that git would not write.
/// - Parameter names: `d/f` is a directory `d` that holds a file `f`.
/// - Returns: the tree.
public func literalTree(_ names: [String], in directory: String) async throws -> String {
    func id(_ arguments: [String]) async throws -> String {
        String(try await run(["git"] + arguments, in: directory).prefix(40))
    }
    func literal(_ entries: [(mode: String, name: String, id: String)]) async throws -> String {
        var content: [UInt8] = []
        for entry in entries {
            content += Array("\(entry.mode) \(entry.name)\0".utf8)
            var digits = entry.id[...]
            while !digits.isEmpty {
                content.append(UInt8(digits.prefix(2), radix: 16)!)
                digits = digits.dropFirst(2)
            }
        }
        let file = "\(directory)/.git/literal-\(UUID().uuidString)"
        try Data(content).write(to: URL(fileURLWithPath: file))
        return try await id(["hash-object", "-t", "tree", "-w", "--literally", file])
    }
    try Data("literal\n".utf8).write(to: URL(fileURLWithPath: "\(directory)/.git/literal"))
    let blob = try await id(["hash-object", "-w", "\(directory)/.git/literal"])
    var entries: [(String, String, String)] = []
    for name in names {
        let parts = name.split(separator: "/").map(String.init)
        entries.append(
            parts.count == 1
                ? ("100644", name, blob) : ("40000", parts[0], try await literal([("100644", parts[1], blob)])))
    }
    return try await literal(entries)
}

/// Writes a file below a directory.
public func write(_ file: TestFile, in directory: String) throws {
    let path = "\(directory)/\(file.path)"
    let parent = (path as NSString).deletingLastPathComponent
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    if file.kind == .link {
        try FileManager.default.createSymbolicLink(
            atPath: path, withDestinationPath: String(decoding: file.content, as: UTF8.self))
        return
    }
    try Data(file.content).write(to: URL(fileURLWithPath: path))
    chmod(path, file.kind == .executable ? 0o755 : 0o644)
}

/// Every path below a directory with its kind, mode and content; `.git` at the top is left out.
public func snapshot(_ directory: String) throws -> [String: String] {
    var result: [String: String] = [:]
    guard let names = FileManager.default.enumerator(atPath: directory) else { return [:] }
    for case let name as String in names where name != ".git" && !name.hasPrefix(".git/") {
        var value = stat()
        let path = "\(directory)/\(name)"
        guard lstat(path, &value) == 0 else { continue }
        let mode = String(value.st_mode, radix: 8)
        switch value.st_mode & S_IFMT {
        case S_IFLNK: result[name] = "\(mode) -> \(try FileManager.default.destinationOfSymbolicLink(atPath: path))"
        case S_IFREG: result[name] = "\(mode) \(try Data(contentsOf: URL(fileURLWithPath: path)).base64EncodedString())"
        default: result[name] = mode
        }
    }
    return result
}

/// What git itself makes of a commit: a worktree in the scratch directory, removed again.
public func gitsOwnCheckout(of commit: String, in repository: String, scratch: Scratch) async throws -> [String: String]
{
    let path = "\(scratch.path)/oracle-\(UUID().uuidString)"
    try await git("worktree", "add", "--quiet", "--detach", path, commit, in: repository)
    let result = try snapshot(path)
    try await git("worktree", "remove", "--force", path, in: repository)
    return result
}
